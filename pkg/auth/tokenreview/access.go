package tokenreview

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

const (
	// accessFor is how long an answer is good, yes or no, from when the token was
	// verified.
	accessFor = 10 * time.Second

	maxPeople  = 1024
	maxAnswers = 8192
)

// AccessOptions configure an Access.
type AccessOptions struct {
	Group   string           // API group of all resources asked about; needed
	Timeout time.Duration    // of each review; 0 is DefaultTimeout
	Now     func() time.Time // wall clock; nil is time.Now
}

// Access says what people may do, by their tokens. Make it with NewAccess.
type Access struct {
	tokens  authentication.TokenReviewInterface
	access  authorization.SubjectAccessReviewInterface
	o       AccessOptions
	people  *memory[person]
	answers *memory[refusal] // of both kinds: err is nil for yes
	asking  flights
}

// person is whom a token belongs to, or err.
type person struct {
	user  authenticationv1.UserInfo
	err   error
	until time.Time
}

// NewAccess makes an Access. It asks nobody yet.
func NewAccess(tokens authentication.TokenReviewInterface, access authorization.SubjectAccessReviewInterface, o AccessOptions) *Access {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Access{tokens: tokens, access: access, o: o, people: newMemory[person](maxPeople), answers: newMemory[refusal](maxAnswers)}
}

// Allowed is nil where the owner of the token, made for the API server, may do
// verb with the resource of the group in the
// namespace; "" is all namespaces. Any error wraps one of the errors above.
func (a *Access) Allowed(ctx context.Context, token, verb, resource, namespace string) error {
	if token == "" {
		return fmt.Errorf("%w: there is no token", ErrUnauthenticated)
	}
	id := digest(token, verb, resource, namespace)
	if answer, ok := a.answers.get(id); ok && a.o.Now().Before(answer.until) {
		return answer.err
	}
	p, err := a.who(ctx, token)
	if err != nil {
		return err
	}
	return a.asking.do(ctx, id, a.o.Timeout, func(ctx context.Context) error {
		err, known := a.may(ctx, p.user, verb, resource, namespace)
		if known {
			a.answers.put(id, refusal{err: err, until: p.until})
		}
		return err
	})
}

// Owner is the name of a token's owner, "" where that is not known. It asks
// only if Allowed has not just done so.
func (a *Access) Owner(ctx context.Context, token string) string {
	if token == "" {
		return ""
	}
	p, err := a.who(ctx, token)
	if err != nil {
		return ""
	}
	return p.user.Username
}

// who is the owner of a token.
func (a *Access) who(ctx context.Context, token string) (person, error) {
	id := digest(token)
	if p, ok := a.people.get(id); ok && a.o.Now().Before(p.until) {
		return p, p.err
	}
	err := a.asking.do(ctx, id, a.o.Timeout, func(ctx context.Context) error {
		// No audiences: those of the API server itself.
		answer, err := a.tokens.Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token},
		}, metav1.CreateOptions{})
		if err != nil {
			return unavailable(err)
		}
		p := person{user: answer.Status.User, until: a.o.Now().Add(accessFor)}
		if !answer.Status.Authenticated || p.user.Username == "" {
			p.user, p.err = authenticationv1.UserInfo{}, fmt.Errorf("%w: Kubernetes does not accept the token", ErrUnauthenticated)
		}
		a.people.put(id, p)
		return p.err
	})
	if err != nil {
		return person{}, err
	}
	p, ok := a.people.get(id)
	if !ok { // pushed out meanwhile
		return person{}, fmt.Errorf("%w: too many tokens are being verified", ErrUnavailable)
	}
	return p, p.err
}

// may asks whether somebody may; known tells an answer from none.
func (a *Access) may(ctx context.Context, user authenticationv1.UserInfo, verb, resource, namespace string) (err error, known bool) {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for k, v := range user.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	answer, err := a.access.Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   user.Username,
			UID:    user.UID,
			Groups: user.Groups,
			Extra:  extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: a.o.Group, Resource: resource, Verb: verb, Namespace: namespace,
			},
		},
	}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return unavailable(err), false
	case answer.Status.Allowed && !answer.Status.Denied:
		return nil, true
	case !answer.Status.Denied && answer.Status.EvaluationError != "":
		return fmt.Errorf("%w: Kubernetes could not decide", ErrUnavailable), false
	}
	where := "in namespace " + namespace
	if namespace == "" {
		where = "in all namespaces"
	}
	return fmt.Errorf("%w: %q may not %s %s.%s %s", ErrForbidden, user.Username, verb, resource, a.o.Group, where), true
}
