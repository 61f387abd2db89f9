package tokenreview

import (
	"os"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// What a real API server answers, where there is one.
func TestARealAPIServer(t *testing.T) {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		t.Skip("KUBECONFIG is not set: NOT checked against a real API server")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	ns, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "penstock-tokenreview-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CoreV1().Namespaces().Delete(t.Context(), ns.Name, metav1.DeleteOptions{}) //nolint:errcheck
	token := func(account string, audiences ...string) string {
		t.Helper()
		_, _ = client.CoreV1().ServiceAccounts(ns.Name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
		r, err := client.CoreV1().ServiceAccounts(ns.Name).CreateToken(ctx, account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: audiences},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Token
	}
	name := "system:serviceaccount:" + ns.Name + ":ingress"
	r := New(client.AuthenticationV1().TokenReviews(), Options{Audience: audience, Allowed: []string{name}})
	good := token("ingress", audience)
	want(t, r.Authorize(ctx, good), nil)
	if _, ok := expiry(good); !ok {
		t.Error("a real token's end cannot be read")
	}
	want(t, r.Authorize(ctx, token("other", audience)), ErrForbidden)
	want(t, r.Authorize(ctx, token("ingress")), ErrUnauthenticated)
	want(t, r.Authorize(ctx, token("ingress", "somebody-else")), ErrUnauthenticated)
	want(t, r.Authorize(ctx, good[:len(good)-4]+"AAAA"), ErrUnauthenticated)

	a := NewAccess(client.AuthenticationV1().TokenReviews(), client.AuthorizationV1().SubjectAccessReviews(), AccessOptions{})
	want(t, a.Allowed(ctx, token("ingress"), "get", "brokers", ns.Name), ErrForbidden)
	want(t, a.Allowed(ctx, good, "get", "brokers", ns.Name), ErrUnauthenticated)
}
