package server

import (
	"context"
	"errors"
	"net"

	"github.com/hotsvc/svc/server/socket"
)

// socketMode lets the owner and the group of the process use a unix socket: a
// proxy of the same group connects to it.
const socketMode = 0o660

// Listen opens a listener for each address, in order, or none: when one cannot
// be opened, those before it are closed again. ctx bounds the look-up of host
// names. An address is one of [Config.Listen].
//
// "0.0.0.0" is all addresses of IPv4. "[::]", or no host, is all of IPv6, and of
// IPv4 too unless that is listened on by itself at the same port.
//
// A unix socket can be used by the owner and the group of the process (0660). A
// socket that nobody listens on any more is replaced; what is no socket is not
// touched. Closing the listener removes it, unless another has taken its place.
//
// The error names the address and says what to do about it, for a port in use,
// a port this user may not open, and an address this machine does not have.
func Listen(ctx context.Context, addrs []string) ([]net.Listener, error) {
	resolved, err := socket.Resolve(ctx, addrs)
	if err != nil {
		return nil, err
	}
	listeners := make([]net.Listener, 0, len(addrs))
	for i, addr := range addrs {
		ln, err := socket.Listen(ctx, resolved[i], socketMode)
		if err != nil {
			for _, opened := range listeners {
				// It has accepted nothing; the error worth telling is err.
				_ = opened.Close()
			}
			if e, ok := errors.AsType[*socket.Error](err); ok {
				e.Addr = addr // as the operator has written it
			}
			return nil, err
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}
