//go:build !linux

package socket

import (
	"context"
	"errors"
	"net"
	"os"
)

// maxSocketPath is what sun_path holds on the systems that hold least, without the
// NUL behind it.
const maxSocketPath = 103

// withMode does nothing: the file gets its mode after the bind.
func withMode(os.FileMode) control { return nil }

// Socket is for Linux. Elsewhere there is none.
type Socket struct{}

// Open is for Linux. Elsewhere it returns an error that is [errors.ErrUnsupported].
func Open(_ context.Context, a Address, _ os.FileMode) (*Socket, error) {
	return nil, explain(a.written(), errors.ErrUnsupported)
}

// OpenBeside is for Linux, as [Open].
func OpenBeside(ctx context.Context, a Address, mode os.FileMode) (*Socket, error) {
	return Open(ctx, a, mode)
}

// Inherit is for Linux, as [Open].
func Inherit(int) (*Socket, error) {
	return nil, &Error{Addr: "an inherited socket", Err: errors.ErrUnsupported}
}

// Listener is for Linux, as [Open]. It does not touch fd.
func Listener(_ int, a Address) (net.Listener, error) {
	return nil, failure("accept", a, errors.ErrUnsupported)
}

// FD returns -1.
func (*Socket) FD() int { return -1 }

// Address returns none.
func (*Socket) Address() Address { return Address{} }

// Bound returns none.
func (*Socket) Bound() Address { return Address{} }

// Addr returns none.
func (*Socket) Addr() string { return "" }

// Is returns false.
func (*Socket) Is(Address) bool { return false }

// ReusePort is for Linux.
func (*Socket) ReusePort() error { return errors.ErrUnsupported }

// Refuse is for Linux.
func (*Socket) Refuse() error { return errors.ErrUnsupported }

// Admit is for Linux.
func (*Socket) Admit() error { return errors.ErrUnsupported }

// Unlink is for Linux.
func (*Socket) Unlink() error { return errors.ErrUnsupported }

// Close does nothing.
func (*Socket) Close() error { return nil }
