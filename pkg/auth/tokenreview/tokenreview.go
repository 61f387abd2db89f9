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
// SHA-256. Everything here may be used by any number of goroutines. A question
// to the API server that several callers share goes on when one of them gives
// up, for Timeout at most.
package tokenreview

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/channel"
)

// What an answer of no means.
var (
	ErrUnauthenticated = errors.New("not authenticated")                    // no token, or a bad one: 401
	ErrForbidden       = errors.New("not allowed")                          // known, and not let in: 403
	ErrUnavailable     = errors.New("who asks cannot be verified just now") // nobody could be asked: 503
)

const (
	// DefaultTimeout is how long one question to the API server may take.
	DefaultTimeout = 5 * time.Second

	// A verified token is good for verifiedFor, and is asked about again, while
	// it is used, from refreshAfter on: so nobody waits for that.
	verifiedFor  = 5 * time.Minute
	refreshAfter = 4 * time.Minute

	// What is refused is asked about again after refusedFor.
	refusedFor = 5 * time.Second

	// While the API server is away a verified token is good until it ends, at
	// most so long after it was verified last. It is asked about every retryAfter,
	// and each time in vain makes it good for graceFor.
	trustedFor = time.Hour
	retryAfter = 10 * time.Second
	graceFor   = time.Minute

	// Bounds of what is remembered: the one used longest ago goes. Tokens that
	// were refused cannot push out those that were not.
	maxVerified = 1024
	maxRefused  = 1024
)

// Options say whom a Reviewer lets in.
type Options struct {
	Audience string   // that a token must be made for; without one nobody gets in
	Allowed  []string // user names, as in system:serviceaccount:NAMESPACE:NAME

	Timeout time.Duration    // of one review; 0 is DefaultTimeout
	Now     func() time.Time // wall clock; nil is time.Now
}

// Reviewer lets in service accounts by their tokens. Make it with New.
type Reviewer struct {
	reviews  authentication.TokenReviewInterface
	o        Options
	verified *memory[grant]
	refused  *memory[refusal]
	asking   flights
}

// grant is a token that was verified.
type grant struct {
	refresh time.Time // ask again from here on
	until   time.Time // good without asking
	trust   time.Time // good if nobody can be asked
}

// refusal is a token that was refused.
type refusal struct {
	err   error
	until time.Time
}

// New makes a Reviewer. It asks nobody yet.
func New(reviews authentication.TokenReviewInterface, o Options) *Reviewer {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reviewer{reviews: reviews, o: o, verified: newMemory[grant](maxVerified), refused: newMemory[refusal](maxRefused)}
}

// Authorize is nil for a token that Kubernetes has verified for the audience
// and whose owner is on the list. Any error wraps one of the errors above.
func (r *Reviewer) Authorize(ctx context.Context, token string) error {
	if token == "" {
		return fmt.Errorf("%w: there is no token", ErrUnauthenticated)
	}
	id := digest(token)
	now := r.o.Now()
	if g, ok := r.verified.get(id); ok && now.Before(g.until) {
		if !now.Before(g.refresh) {
			r.asking.begin(id, r.o.Timeout, func(ctx context.Context) error { return r.review(ctx, id, token) })
		}
		return nil
	}
	if no, ok := r.refused.get(id); ok && now.Before(no.until) {
		return no.err
	}
	return r.asking.do(ctx, id, r.o.Timeout, func(ctx context.Context) error { return r.review(ctx, id, token) })
}

// review asks and remembers the answer.
func (r *Reviewer) review(ctx context.Context, id key, token string) error {
	answer, err := r.reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{r.o.Audience}},
	}, metav1.CreateOptions{})
	now := r.o.Now()
	if err != nil {
		if g, ok := r.verified.get(id); ok && now.Before(g.trust) {
			r.verified.put(id, grant{refresh: now.Add(retryAfter), until: earlier(now.Add(graceFor), g.trust), trust: g.trust})
			return nil
		}
		return unavailable(err)
	}
	if err := r.judge(answer.Status); err != nil {
		r.verified.drop(id)
		r.refused.put(id, refusal{err: err, until: now.Add(refusedFor)})
		return err
	}
	r.refused.drop(id)
	g := grant{refresh: now.Add(refreshAfter), until: now.Add(verifiedFor)}
	// What the token says of its own end is believed only where that is sooner. A
	// token that does not say is not trusted beyond verifiedFor.
	if end, ok := expiry(token); ok {
		g.until, g.trust = earlier(g.until, end), earlier(now.Add(trustedFor), end)
	}
	r.verified.put(id, g)
	return nil
}

// judge reads an answer. An authenticator that does not know about audiences
// leaves them out of it: it has not checked whom the token was made for.
func (r *Reviewer) judge(s authenticationv1.TokenReviewStatus) error {
	switch {
	case !s.Authenticated:
		return fmt.Errorf("%w: Kubernetes does not accept the token", ErrUnauthenticated)
	case r.o.Audience == "" || !slices.Contains(s.Audiences, r.o.Audience):
		return fmt.Errorf("%w: the token is not made for audience %q", ErrUnauthenticated, r.o.Audience)
	case !slices.Contains(r.o.Allowed, s.User.Username):
		return fmt.Errorf("%w: %q is not on the list", ErrForbidden, s.User.Username)
	}
	return nil
}

// Requests is Authorize for HTTP requests, in the form that channel/remote's
// Server and loaded's Board take. An error that is ErrForbidden also wraps
// forbidden, and one that is ErrUnavailable also wraps channel.ErrUnavailable.
func (r *Reviewer) Requests(forbidden error) func(*http.Request) error {
	return func(req *http.Request) error {
		token, ok := auth.Bearer(req)
		if !ok {
			return fmt.Errorf("%w: the request brings no bearer token", ErrUnauthenticated)
		}
		err := r.Authorize(req.Context(), token)
		switch {
		case errors.Is(err, ErrForbidden):
			return errors.Join(err, forbidden)
		case errors.Is(err, ErrUnavailable):
			return errors.Join(err, channel.ErrUnavailable)
		}
		return err
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
