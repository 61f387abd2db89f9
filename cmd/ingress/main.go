// Command ingress is the front door of a cluster: it takes events by HTTP and stores them in dispatchers.
package main

import (
	"os"

	"github.com/penstock-events/penstock/pkg/app/ingress"
	"github.com/penstock-events/penstock/pkg/app/process"
)

func main() { os.Exit(process.Main(ingress.Command())) }
