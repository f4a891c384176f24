package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// Listen opens a listener for each address, in order, or none: when one cannot
// be opened, those before it are closed again. ctx bounds the look-up of host
// names. An address is one of [Config.Listen].
//
// "0.0.0.0" is all addresses of IPv4. "[::]" is all of IPv6, and of IPv4 too
// unless that is listened on by itself at the same port; no host is all of
// both.
//
// A unix socket can be used by the owner and the group of the process (0660). A
// socket that nobody listens on any more is replaced; what is no socket is not
// touched. Closing the listener removes it.
//
// The error names the address and says what to do about it, for a port in use,
// a port this user may not open, and an address this machine does not have.
func Listen(ctx context.Context, addrs []string) ([]net.Listener, error) {
	listeners := make([]net.Listener, 0, len(addrs))
	for _, addr := range addrs {
		ln, err := listen(ctx, addr, addrs)
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

func listen(ctx context.Context, addr string, all []string) (net.Listener, error) {
	var lc net.ListenConfig
	// A socket of MPTCP cannot be handed to another process as a TCP one.
	lc.SetMultipathTCP(false)
	network, target := network(addr)
	switch network {
	case "unix":
		return listenUnix(ctx, &lc, target)
	case "tcp":
		if besideIPv4(target, all) {
			network = "tcp6"
		}
	}
	return lc.Listen(ctx, network, target)
}

// besideIPv4 reports whether addr is all addresses of IPv6, and all of IPv4 at
// the same port are listened on too.
func besideIPv4(addr string, all []string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip == netip.IPv6Unspecified() && slices.Contains(all, net.JoinHostPort("0.0.0.0", port))
}

func listenUnix(ctx context.Context, lc *net.ListenConfig, path string) (net.Listener, error) {
	ln, err := lc.Listen(ctx, "unix", path)
	if errors.Is(err, errAddrInUse) && path[0] != '@' {
		if err := removeAbandoned(ctx, path); err != nil {
			return nil, err
		}
		ln, err = lc.Listen(ctx, "unix", path)
	}
	if err != nil || path[0] == '@' { // an abstract socket has no file
		return ln, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // a proxy of the same group connects to it
		return nil, errors.Join(fmt.Errorf("let the group use the socket: %w", err), ln.Close())
	}
	return ln, nil
}

var errNotSocket = errors.New("it is no socket")

// removeAbandoned removes path where it is a socket that nobody listens on.
// Where somebody does, it leaves the error to the next try.
func removeAbandoned(ctx context.Context, path string) error {
	info, err := os.Lstat(path) //nolint:gosec // the operator names it
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it has just gone
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errNotSocket
	}
	d := net.Dialer{Timeout: time.Second}
	nc, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = nc.Close()
		return nil
	}
	if !errors.Is(err, errConnRefused) {
		return nil
	}
	if err := os.Remove(path); err != nil { //nolint:gosec // the operator names it
		return fmt.Errorf("remove the socket that nobody listens on: %w", err)
	}
	return nil
}

func listenError(addr string, err error) error {
	// The cause below the OpError leaves out the address, which stands before.
	cause := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		cause = op.Err
	}
	_, isPath := strings.CutPrefix(addr, unixPrefix)
	switch {
	case errors.Is(err, fs.ErrPermission) && isPath:
		return fmt.Errorf("listen on %s: this user may not make a socket there; choose another folder, or let this user write to it: %w", addr, cause)
	case errors.Is(err, errNotSocket):
		return fmt.Errorf("listen on %s: there is something at the path that is no socket; remove it, or choose another path: %w", addr, cause)
	case errors.Is(err, errAddrInUse):
		return fmt.Errorf("listen on %s: another program listens on this address; choose another, or stop it: %w", addr, cause)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errAccess):
		return fmt.Errorf("listen on %s: this user may not open the port; %s: %w", addr, portHint, cause)
	case errors.Is(err, errAddrNotAvail):
		return fmt.Errorf("listen on %s: this machine does not have the address; choose another, or bring the interface up: %w", addr, cause)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("listen on %s: the host name does not resolve: %w", addr, cause)
	}
	return fmt.Errorf("listen on %s: %w", addr, cause)
}
