// Package tokenreview asks Kubernetes who somebody is and what they may do:
// Reviewer for the parts of Penstock among each other (TokenReview, a list of
// service accounts), Access for people who use the API (TokenReview, then
// SubjectAccessReview).
//
// It promises that nobody gets in whom Kubernetes has not vouched for, and that
// an API server which is away stops no events: a Reviewer goes on to trust a
// token it has seen verified, until that token itself ends and an hour at
// most. Access does not: it fails closed.
//
// A token never appears in an error or in a log, and is kept only as its
// SHA-256. Everything here may be used by any number of goroutines and has no
// goroutines of its own that outlive a call by more than one request's time.
package tokenreview

import (
	"context"
	"errors"
	"net/http"
	"time"

	authenticationv1 "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationv1 "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

// What an answer of no means.
var (
	ErrUnauthenticated = errors.New("not authenticated")                    // no token, or a bad one: 401
	ErrForbidden       = errors.New("not allowed")                          // known, and not let in: 403
	ErrUnavailable     = errors.New("who asks cannot be verified just now") // nobody could be asked: 503
)

// Options say whom a Reviewer lets in.
type Options struct {
	Audience string   // that a token must be made for; needed
	Allowed  []string // user names, as in system:serviceaccount:NAMESPACE:NAME

	Timeout time.Duration    // of one review; 0 is 5 s
	Now     func() time.Time // wall clock; nil is time.Now
}

// Reviewer lets in service accounts by their tokens. Make it with New.
type Reviewer struct {
	reviews authenticationv1.TokenReviewInterface
	o       Options
}

// New makes a Reviewer. It asks nobody yet.
func New(reviews authenticationv1.TokenReviewInterface, o Options) *Reviewer {
	return &Reviewer{reviews: reviews, o: o}
}

// Authorize is nil for a token that Kubernetes has verified for the audience
// and whose owner is on the list. Any error wraps one of the errors above.
func (r *Reviewer) Authorize(ctx context.Context, token string) error { panic("not yet") }

// Requests is Authorize for HTTP requests, in the form that channel/remote's
// Server and loaded's Board take. An error that is ErrForbidden also wraps
// forbidden, and one that is ErrUnavailable also wraps channel.ErrUnavailable.
func (r *Reviewer) Requests(forbidden error) func(*http.Request) error { panic("not yet") }

// AccessOptions configure an Access.
type AccessOptions struct {
	Timeout time.Duration    // of both reviews together; 0 is 5 s
	Now     func() time.Time // wall clock; nil is time.Now
}

// Access says what people may do, by their tokens. Make it with NewAccess.
type Access struct {
	tokens authenticationv1.TokenReviewInterface
	access authorizationv1.SubjectAccessReviewInterface
	o      AccessOptions
}

// NewAccess makes an Access. It asks nobody yet.
func NewAccess(tokens authenticationv1.TokenReviewInterface, access authorizationv1.SubjectAccessReviewInterface, o AccessOptions) *Access {
	return &Access{tokens: tokens, access: access, o: o}
}

// Allowed is nil where the owner of the token, made for the API server, may do
// verb with the resource (brokers or triggers of eventing.knative.dev) in the
// namespace; "" is all namespaces. Any error wraps one of the errors above.
func (a *Access) Allowed(ctx context.Context, token, verb, resource, namespace string) error {
	panic("not yet")
}
