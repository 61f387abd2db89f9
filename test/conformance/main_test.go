package conformance

import (
	"fmt"
	"os"
	"testing"

	"github.com/penstock-events/penstock/test/kube"
)

func TestMain(m *testing.M) {
	code := kube.Main(m, "test/conformance")
	if err := keep(); err != nil {
		fmt.Fprintln(os.Stderr, "test/conformance:", err)
		code = 1
	}
	os.Exit(code)
}
