//go:build !linux

package keeper

import (
	"context"
	"net"
	"os"

	"github.com/hotsvc/svc/server/socket"
)

const supported = false

// link is that of a worker to its keeper, which there is none here.
type link struct{}

func runKeeper(context.Context, Options) error { return errNoKeeper }

func runWorker(context.Context, Options, func(context.Context, *Worker) error) error {
	return errNoKeeper
}

func (*link) restart(context.Context, []byte, string) error { return errNoKeeper }
func (*link) table(context.Context) (Table, error)          { return Table{}, errNoKeeper }
func (*link) blob(message, []byte)                          {}

func (*link) listen(context.Context, []socket.Address, os.FileMode) ([]net.Listener, error) {
	return nil, errNoKeeper
}

func (*link) serve(context.Context, *Worker, Service, []net.Listener, Hooks) error {
	return errNoKeeper
}
