package tokenreview

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	k8stesting "k8s.io/client-go/testing"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	audience = "penstock-dispatcher"
	ingress  = "system:serviceaccount:penstock:ingress"
)

// server is an API server of which tests say what it answers.
type server struct {
	client *fake.Clientset

	mu      sync.Mutex
	users   map[string]string // by token
	spoken  []string          // audiences of its answers
	away    error
	slow    time.Duration
	allow   map[string]bool // verb resource namespace, by user
	tokens  int             // reviews of tokens
	accesss int
}

func newServer() *server {
	s := &server{client: fake.NewSimpleClientset(), users: map[string]string{}, spoken: []string{audience}, allow: map[string]bool{}}
	s.client.PrependReactor("create", "tokenreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
		review := a.(k8stesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		s.mu.Lock()
		s.tokens++
		away := s.away
		user, ok := s.users[review.Spec.Token]
		s.mu.Unlock()
		if away != nil {
			return true, nil, away
		}
		if ok {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: user, Groups: []string{"g"}}}
			if len(review.Spec.Audiences) > 0 {
				review.Status.Audiences = s.spoken
			}
		} else {
			review.Status.Error = "bad token " + review.Spec.Token
		}
		return true, review, nil
	})
	s.client.PrependReactor("create", "subjectaccessreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
		review := a.(k8stesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.accesss++
		if s.away != nil {
			return true, nil, s.away
		}
		r := review.Spec.ResourceAttributes
		review.Status.Allowed = r.Group == Group && s.allow[fmt.Sprint(review.Spec.User, " ", r.Verb, " ", r.Resource, " ", r.Namespace)]
		return true, review, nil
	})
	return s
}

func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// slowly takes the server's time before a review. Inside its reactors, which
// run under a lock, virtual time would stand still.
type slowly struct {
	authentication.TokenReviewInterface
	s *server
}

func (l slowly) Create(ctx context.Context, review *authenticationv1.TokenReview, o metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	l.s.mu.Lock()
	slow := l.s.slow
	l.s.mu.Unlock()
	select {
	case <-time.After(slow):
		return l.TokenReviewInterface.Create(ctx, review, o)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *server) reviewer() *Reviewer {
	return New(slowly{s.client.AuthenticationV1().TokenReviews(), s}, Options{Audience: audience, Allowed: []string{ingress}})
}

func (s *server) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

// jwt is a token that says when it ends. Nobody but the server checks more.
func jwt(end time.Time) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc(fmt.Appendf(nil, `{"exp":%d}`, end.Unix())) + ".c2ln"
}

func want(t *testing.T, err, wanted error) {
	t.Helper()
	if !errors.Is(err, wanted) || wanted == nil && err != nil {
		t.Errorf("%v, want %v", err, wanted)
	}
}

func TestOnlyTheServiceAccountsOnTheListGetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.users["good"], s.users["other"] = ingress, "system:serviceaccount:shop:ingress"
		r := s.reviewer()
		want(t, r.Authorize(t.Context(), "good"), nil)
		want(t, r.Authorize(t.Context(), "other"), ErrForbidden)
		want(t, r.Authorize(t.Context(), ""), ErrUnauthenticated)
		err := r.Authorize(t.Context(), "made-up-secret")
		want(t, err, ErrUnauthenticated)
		if strings.Contains(err.Error(), "made-up-secret") {
			t.Errorf("the token is in %q", err)
		}
		// A token for somebody else's audience, or of a server that knows none.
		for _, spoken := range [][]string{nil, {"https://kubernetes.default.svc"}} {
			s.spoken = spoken
			want(t, s.reviewer().Authorize(t.Context(), "good"), ErrUnauthenticated)
		}
	})
}

func TestATokenIsReviewedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		token := jwt(time.Now().Add(24 * time.Hour))
		s.users[token], s.slow = ingress, 100*time.Millisecond
		r := s.reviewer()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { want(t, r.Authorize(t.Context(), token), nil) })
		}
		all.Wait()
		if n := s.asked(); n != 1 {
			t.Errorf("%d reviews for 100 requests at once, want 1", n)
		}
		// It is looked at again before it has to be, and nobody waits for that.
		for range 60 * 60 {
			start := time.Now()
			want(t, r.Authorize(t.Context(), token), nil)
			if waited := time.Since(start); waited != 0 {
				t.Fatalf("a request waited %v", waited)
			}
			time.Sleep(time.Second)
		}
		if n := s.asked(); n < 12 || n > 16 {
			t.Errorf("%d reviews in an hour, want about 15", n)
		}
		// One that was taken back is out after five minutes at most.
		s.set(func() { delete(s.users, token) })
		start := time.Now()
		for r.Authorize(t.Context(), token) == nil {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > verifiedFor {
			t.Errorf("good for %v after it was taken back", took)
		}
	})
}

func TestAnOutageOfTheAPIServerStopsNoEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		long, short := jwt(time.Now().Add(24*time.Hour)), jwt(time.Now().Add(30*time.Minute))
		s.users[long], s.users[short], s.users["opaque"] = ingress, ingress, ingress
		r := s.reviewer()
		tokens := map[string]time.Duration{long: trustedFor, short: 30 * time.Minute, "opaque": verifiedFor}
		for token := range tokens {
			want(t, r.Authorize(t.Context(), token), nil)
		}
		start := time.Now()
		s.set(func() { s.away, s.slow = errors.New("connection refused"), time.Second })
		want(t, r.Authorize(t.Context(), "new"), ErrUnavailable)

		good := map[string]time.Duration{}
		longest := time.Duration(0)
		for time.Since(start) < 2*time.Hour {
			for token := range tokens {
				before := time.Now()
				err := r.Authorize(t.Context(), token)
				if err == nil {
					good[token] = time.Since(start)
					longest = max(longest, time.Since(before))
				} else {
					want(t, err, ErrUnavailable)
				}
			}
			time.Sleep(5 * time.Second)
		}
		for token, wanted := range tokens {
			if got := good[token]; got > wanted || got < wanted-15*time.Second {
				t.Errorf("good for %v of the outage, want %v", got, wanted)
			}
		}
		if longest != 0 {
			t.Errorf("a request waited %v for a server that is away", longest)
		}
		s.set(func() { s.away = nil })
		want(t, r.Authorize(t.Context(), long), nil)
	})
}

// Idle for longer than a verification lasts, and then the server is away: the
// first request waits for it, and gets in.
func TestAnOutageAfterAQuietTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		token := jwt(time.Now().Add(24 * time.Hour))
		s.users[token] = ingress
		r := s.reviewer()
		want(t, r.Authorize(t.Context(), token), nil)
		time.Sleep(30 * time.Minute)
		s.set(func() { s.away = errors.New("away") })
		want(t, r.Authorize(t.Context(), token), nil)
		s.set(func() { s.away = nil; delete(s.users, token) })
		time.Sleep(graceFor)
		want(t, r.Authorize(t.Context(), token), ErrUnauthenticated)
		// What was refused has no trust to fall back on.
		s.set(func() { s.away = errors.New("away") })
		time.Sleep(refusedFor)
		want(t, r.Authorize(t.Context(), token), ErrUnavailable)
	})
}

func TestARefusalIsRememberedShortly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		r := s.reviewer()
		for range 10 {
			want(t, r.Authorize(t.Context(), "early"), ErrUnauthenticated)
		}
		if n := s.asked(); n != 1 {
			t.Errorf("%d reviews, want 1", n)
		}
		s.set(func() { s.users["early"] = ingress })
		time.Sleep(refusedFor)
		want(t, r.Authorize(t.Context(), "early"), nil)
	})
}

// Made-up tokens neither push out the good ones nor flood the API server.
func TestAFloodOfTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.users["good"] = ingress
		r := s.reviewer()
		want(t, r.Authorize(t.Context(), "good"), nil)
		for i := range 3 * maxRefused {
			want(t, r.Authorize(t.Context(), fmt.Sprint("bad-", i)), ErrUnauthenticated)
		}
		if n := r.refused.recent.Len(); n != maxRefused || len(r.refused.byKey) != n {
			t.Errorf("%d refusals are remembered", n)
		}
		before := s.asked()
		want(t, r.Authorize(t.Context(), "good"), nil)
		if s.asked() != before {
			t.Error("the good token was pushed out")
		}

		s.set(func() { s.slow = time.Hour })
		var all sync.WaitGroup
		for i := range 2 * maxFlights {
			all.Go(func() {
				start := time.Now()
				want(t, r.Authorize(t.Context(), fmt.Sprint("slow-", i)), ErrUnavailable)
				if time.Since(start) > DefaultTimeout {
					t.Error("waited for longer than the timeout")
				}
			})
		}
		synctest.Wait()
		want(t, r.Authorize(t.Context(), "good"), nil)
		all.Wait()
		if n := s.asked() - before; n != 0 {
			t.Errorf("%d reviews were answered by a server that does not answer", n)
		}
	})
}

func TestRequestsSpeakTheErrorsOfTheirServer(t *testing.T) {
	forbidden := errors.New("the server's own")
	s := newServer()
	s.users["good"], s.users["other"] = ingress, "somebody"
	check := s.reviewer().Requests(forbidden)
	request := func(header string) error {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		return check(r)
	}
	want(t, request("Bearer good"), nil)
	want(t, request("Bearer other"), forbidden)
	for _, header := range []string{"", "Basic good", "Bearer ", "Bearer bad"} {
		err := request(header)
		want(t, err, ErrUnauthenticated)
		if errors.Is(err, forbidden) || errors.Is(err, channel.ErrUnavailable) {
			t.Errorf("%q: %v", header, err)
		}
	}
	s.set(func() { s.away = errors.New("away") })
	want(t, request("Bearer unseen"), channel.ErrUnavailable)
}

func TestPeopleMayWhatKubernetesSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.users["jane"], s.users["joe"] = "jane@example.com", "joe"
		s.allow["jane@example.com get triggers shop"] = true
		a := NewAccess(s.client.AuthenticationV1().TokenReviews(), s.client.AuthorizationV1().SubjectAccessReviews(), AccessOptions{})
		for range 5 {
			want(t, a.Allowed(t.Context(), "jane", "get", "triggers", "shop"), nil)
			want(t, a.Allowed(t.Context(), "jane", "get", "triggers", "bank"), ErrForbidden)
			want(t, a.Allowed(t.Context(), "jane", "get", "triggers", ""), ErrForbidden)
			want(t, a.Allowed(t.Context(), "joe", "get", "triggers", "shop"), ErrForbidden)
			want(t, a.Allowed(t.Context(), "nobody", "get", "triggers", "shop"), ErrUnauthenticated)
			want(t, a.Allowed(t.Context(), "", "get", "triggers", "shop"), ErrUnauthenticated)
		}
		if s.tokens != 3 || s.accesss != 4 {
			t.Errorf("%d reviews of tokens and %d of access, want 3 and 4", s.tokens, s.accesss)
		}
		// It fails closed, ten seconds later at most.
		s.set(func() { s.away = errors.New("away") })
		time.Sleep(accessFor)
		want(t, a.Allowed(t.Context(), "jane", "get", "triggers", "shop"), ErrUnavailable)
		s.set(func() { s.away = nil; s.allow = map[string]bool{} })
		want(t, a.Allowed(t.Context(), "jane", "get", "triggers", "shop"), ErrForbidden)
	})
}

func TestWhatATokenSaysOfItsEnd(t *testing.T) {
	end := time.Unix(1_800_000_000, 0)
	if got, ok := expiry(jwt(end)); !ok || !got.Equal(end) {
		t.Errorf("%v %v", got, ok)
	}
	enc := base64.RawURLEncoding.EncodeToString
	for _, token := range []string{"", "a", "a.b", "a.b.c", "a.!.c", "a." + enc([]byte(`{}`)) + ".c", "a." + enc([]byte(`{"exp":"x"}`)) + ".c",
		"a." + enc([]byte(`{"exp":-1}`)) + ".c", "a." + enc([]byte(`{"exp":1e300}`)) + ".c", "a." + enc([]byte(`[]`)) + ".c"} {
		if got, ok := expiry(token); ok {
			t.Errorf("%q ends %v", token, got)
		}
	}
}
