// Command dispatcher is the owner of events in a cluster: it keeps them on its pod's volume and delivers them.
package main

import (
	"os"

	"github.com/penstock-events/penstock/pkg/app/dispatcher"
	"github.com/penstock-events/penstock/pkg/app/process"
)

func main() { os.Exit(process.Main(dispatcher.Command())) }
