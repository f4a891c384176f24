package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

const unixPrefix = "unix:"

// The networks of an [Address].
const (
	networkBoth = "tcp" // all addresses of IPv4 and IPv6
	networkIPv4 = "tcp4"
	networkIPv6 = "tcp6"
	networkUnix = "unix"
)

// Address is where to listen, with nothing left to look up. Equal addresses are
// the same place, so it serves as the key of a map, also across processes. Make
// one by [Resolve].
type Address struct {
	// Network is "tcp4", "tcp6", "unix", or "tcp": all addresses of both families.
	Network string `json:"network"`
	// Target is a numeric IP address and port, the absolute path of a unix socket,
	// or the name of an abstract one, which begins with "@".
	Target string `json:"target"`
	// Nth tells addresses with port 0 apart, which are different ports each: 1 for
	// the first of its kind in the configuration. 0 for all others.
	Nth int `json:"nth,omitempty"`
}

// Resolve returns the address of each of addrs, which are written as in
// server.listen, in their order. A host name is looked up, and stands for its
// first IPv4 address, or its first one when it has none. No host and "[::]" are
// all addresses of both families, or of IPv6 alone where "0.0.0.0" is listened on
// by itself at the same port.
//
// It blocks while names are looked up, until ctx ends. The error is an [*Error];
// one place named twice is an error too.
func Resolve(ctx context.Context, addrs []string) ([]Address, error) {
	resolved := make([]Address, len(addrs))
	first := map[Address]int{} // what was seen, and where
	for i, addr := range addrs {
		a, err := resolve(ctx, addr)
		if err != nil {
			return nil, explain(addr, err)
		}
		if a.anyPort() {
			// first counts here.
			first[a]++
			a.Nth = first[a]
		} else if j, ok := first[a]; ok {
			return nil, &Error{Addr: addr, Hint: "it is the same address as " + addrs[j] + "; remove one"}
		} else {
			first[a] = i
		}
		resolved[i] = a
	}
	for i, a := range resolved {
		port, ok := strings.CutPrefix(a.Target, "[::]")
		if !ok || a.Network != networkBoth {
			continue
		}
		if _, beside := first[Address{Network: networkIPv4, Target: "0.0.0.0" + port}]; beside && !a.anyPort() {
			resolved[i].Network = networkIPv6
		}
	}
	return resolved, nil
}

func resolve(ctx context.Context, addr string) (Address, error) {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		target, err := absolute(path)
		return Address{Network: networkUnix, Target: target}, err
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return Address{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return Address{}, err
	}
	if host == "" {
		return Address{Network: networkBoth, Target: net.JoinHostPort("::", strconv.Itoa(port))}, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if ip, err = lookUp(ctx, host); err != nil {
			return Address{}, err
		}
	}
	return internet(ip, uint16(port)), nil //nolint:gosec // LookupPort answers with a port
}

func lookUp(ctx context.Context, host string) (netip.Addr, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			return ip, nil
		}
	}
	if len(ips) == 0 {
		return netip.Addr{}, &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	return ips[0], nil
}

// internet is the address of ip, where "::" is both families.
func internet(ip netip.Addr, port uint16) Address {
	ip = ip.Unmap()
	a := Address{Network: networkIPv6, Target: netip.AddrPortFrom(ip, port).String()}
	switch {
	case ip.Is4():
		a.Network = networkIPv4
	case ip == netip.IPv6Unspecified():
		a.Network = networkBoth
	}
	return a
}

// absolute is the one form of a socket's path that all its spellings share, but
// for links to folders.
func absolute(path string) (string, error) {
	if path == "" {
		return "", errors.New("unix: needs the path of the socket")
	}
	if path[0] == '@' {
		return path, nil
	}
	if folder, name := filepath.Split(path); runtime.GOOS != "windows" && strings.Contains(folder, "..") {
		// Behind a link to a folder, ".." is not the folder before it, so that the
		// path cannot be made shorter by its text alone. Windows does that itself.
		if !filepath.IsAbs(folder) {
			from, err := os.Getwd()
			if err != nil {
				return "", fmt.Errorf("find the folder that the path starts from: %w", err)
			}
			folder = from + "/" + folder
		}
		if real, err := filepath.EvalSymlinks(folder); err == nil {
			path = filepath.Join(real, name)
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the folder that the path starts from: %w", err)
	}
	return path, nil
}

// bindable is a spelling of the absolute path that fits into the address of a
// socket, which holds far less than a path may have. It counts from the working
// folder where it must.
func bindable(path string) string {
	if len(path) <= maxSocketPath {
		return path
	}
	folder, err := os.Getwd()
	if err != nil {
		return path
	}
	if below, ok := strings.CutPrefix(path, folder+string(filepath.Separator)); ok {
		return below
	}
	// From here on ".." is needed, which the kernel counts from the real folder.
	if folder, err = filepath.EvalSymlinks(folder); err != nil {
		return path
	}
	if relative, err := filepath.Rel(folder, path); err == nil {
		return relative
	}
	return path
}

// anyPort reports whether the port is the kernel's choice.
func (a Address) anyPort() bool {
	if a.Network == networkUnix {
		return false
	}
	ap, err := netip.ParseAddrPort(a.Target)
	return err == nil && ap.Port() == 0
}

// withPort is a with the port of addr in place of port 0.
func (a Address) withPort(addr net.Addr) Address {
	tcp, ok := addr.(*net.TCPAddr)
	ap, err := netip.ParseAddrPort(a.Target)
	if !ok || err != nil || ap.Port() != 0 {
		return a
	}
	a.Target = netip.AddrPortFrom(ap.Addr(), uint16(tcp.Port)).String() //nolint:gosec // it is a port
	a.Nth = 0
	return a
}

// String returns the key of the address, which no other address has: as
// server.listen writes it, but "tcp6:[::]:80" where IPv6 is meant without IPv4,
// and "127.0.0.1:0#2" for the second of two with port 0.
func (a Address) String() string {
	s := a.written()
	if a.Network == networkIPv6 && strings.HasPrefix(a.Target, "[::]:") {
		s = "tcp6:" + s
	}
	if a.Nth > 1 {
		s += "#" + strconv.Itoa(a.Nth)
	}
	return s
}

// written is the address as server.listen writes it.
func (a Address) written() string {
	if a.Network == networkUnix {
		return unixPrefix + a.Target
	}
	return a.Target
}

// Covers reports whether a socket on a would also take what comes for b: a is
// equal to b, or is all addresses of b's family, or of both, at the same port. Two
// different addresses of which one covers the other can be listened on side by
// side only by [OpenBeside]. Port 0 is no port, and covers only itself.
func (a Address) Covers(b Address) bool {
	if a == b {
		return true
	}
	x, errX := netip.ParseAddrPort(a.Target)
	y, errY := netip.ParseAddrPort(b.Target)
	if errX != nil || errY != nil || x.Port() != y.Port() || x.Port() == 0 || !x.Addr().IsUnspecified() {
		return false
	}
	return a.Network == networkBoth || a.Network == b.Network
}
