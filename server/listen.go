package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
)

// Listen opens a TCP listener for each address, in order, or none: when one
// cannot be opened, those before it are closed again. ctx bounds the look-up of
// host names.
//
// The error names the address and says what to do about it, for a port in use,
// a port this user may not open, and an address this machine does not have.
func Listen(ctx context.Context, addrs []string) ([]net.Listener, error) {
	var lc net.ListenConfig
	// A socket of MPTCP cannot be handed to another process as a TCP one.
	lc.SetMultipathTCP(false)

	listeners := make([]net.Listener, 0, len(addrs))
	for _, addr := range addrs {
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			for _, opened := range listeners {
				// It has accepted nothing; the error worth telling is err.
				_ = opened.Close()
			}
			return nil, listenError(addr, err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

func listenError(addr string, err error) error {
	// The cause below the OpError leaves out the address, which stands before.
	cause := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		cause = op.Err
	}
	switch {
	case errors.Is(err, errAddrInUse):
		return fmt.Errorf("listen on %s: another program listens on this address; change server.listen or stop it: %w", addr, cause)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errAccess):
		return fmt.Errorf("listen on %s: this user may not open the port; %s: %w", addr, portHint, cause)
	case errors.Is(err, errAddrNotAvail):
		return fmt.Errorf("listen on %s: this machine does not have the address; change server.listen, or bring the interface up: %w", addr, cause)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("listen on %s: the host name does not resolve; change server.listen: %w", addr, cause)
	}
	return fmt.Errorf("listen on %s: %w", addr, cause)
}
