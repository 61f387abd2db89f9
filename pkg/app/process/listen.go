package process

import (
	"context"
	"net"

	"github.com/penstock-events/penstock/pkg/ingress"
)

// Port is an address to listen on, and the flag that a person changes it with.
type Port struct {
	To            *net.Listener
	Address, Flag string
}

// Listen opens the addresses of a process, all or none. It comes first: a port
// in use is a mistake to hear of before anything is touched. closeAll closes
// those that no server has closed.
func Listen(ctx context.Context, ports ...Port) (closeAll func(), err error) {
	closeAll = func() {
		for _, p := range ports {
			if *p.To != nil {
				_ = (*p.To).Close()
			}
		}
	}
	for _, p := range ports {
		ln, err := ingress.Listen(ctx, p.Address, p.Flag)
		if err != nil {
			closeAll()
			return nil, err
		}
		*p.To = ln
	}
	return closeAll, nil
}
