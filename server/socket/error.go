package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
)

// Error is an address that cannot be listened on.
type Error struct {
	Addr string // as server.listen writes it, or as it was written there
	Hint string // what is the matter and what to do about it; empty where that is not known
	Err  error  // the cause, without the address; may be nil where Hint says it all
}

func (e *Error) Error() string {
	s := "listen on " + e.Addr
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

var errNotSocket = errors.New("it is no socket")

// explain makes an [Error] of err, and says what to do about it where that is
// known.
func explain(addr string, err error) *Error {
	// The cause below the OpError leaves out the address, which stands before.
	e := &Error{Addr: addr, Err: err}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		e.Err = op.Err
	}
	_, isPath := strings.CutPrefix(addr, unixPrefix)
	switch {
	case errors.Is(err, fs.ErrPermission) && isPath:
		e.Hint = "this user may not make a socket there; choose another folder, or let this user write to it"
	case errors.Is(err, errNotSocket):
		e.Hint = "there is something at the path that is no socket; remove it, or choose another path"
	case errors.Is(err, errAddrInUse):
		e.Hint = "another program listens on this address; choose another, or stop it"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errAccess):
		e.Hint = "this user may not open the port; " + portHint
	case errors.Is(err, errAddrNotAvail):
		e.Hint = "this machine does not have the address; choose another, or bring the interface up"
	default:
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			e.Hint = "the host name does not resolve"
		}
	}
	return e
}

// failure is an error of what is done to a socket that is open.
func failure(operation string, a Address, err error) error {
	return fmt.Errorf("%s on %s: %w", operation, a.written(), err)
}
