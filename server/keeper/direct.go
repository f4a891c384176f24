package keeper

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/hotsvc/svc/server/socket"
)

// runDirect does the work in this process.
func runDirect(ctx context.Context, o Options, work func(context.Context, *Worker) error) error {
	w := &Worker{log: o.Logger, stderr: o.Stderr, settled: make(chan struct{}), relayed: make(chan Relayed)}
	ctx, end := w.catch(ctx)
	defer end()
	return work(ctx, w)
}

func listenDirect(ctx context.Context, addrs []socket.Address, mode os.FileMode) ([]net.Listener, error) {
	listeners := make([]net.Listener, 0, len(addrs))
	for _, a := range addrs {
		ln, err := socket.Listen(ctx, a, mode)
		if err != nil {
			for _, opened := range listeners {
				err = errors.Join(err, opened.Close())
			}
			return nil, err
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}
