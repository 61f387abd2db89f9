// Command controller makes Penstock a Broker class of Knative Eventing: it
// gives Brokers their address, resolves what Triggers refer to, and says in
// their status when the data plane has loaded them. No event passes it.
package main

import (
	"fmt"
	"os"

	"knative.dev/pkg/signals"

	"github.com/penstock-events/penstock/pkg/app/controller"
)

func main() {
	if err := controller.Main(signals.NewContext()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
