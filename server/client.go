package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the peers whose word on where a request came from is taken.
type proxies struct {
	networks []netip.Prefix
	unix     bool
}

func newProxies(texts []string) proxies {
	var p proxies
	for _, text := range texts {
		if text == "unix" {
			p.unix = true
			continue
		}
		if network, err := parseProxy(text); err == nil { // validated
			p.networks = append(p.networks, network)
		}
	}
	return p
}

// parseProxy reads one of [Config.TrustedProxies]. The error does not hold the
// text.
func parseProxy(text string) (netip.Prefix, error) {
	if text == "unix" {
		return netip.Prefix{}, nil
	}
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil || network.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("must be an IP address, a network such as 10.0.0.0/8, or unix")
	}
	return network.Masked(), nil
}

func (p *proxies) empty() bool { return len(p.networks) == 0 && !p.unix }

func (p *proxies) trust(ip netip.Addr) bool {
	for _, network := range p.networks {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

// client returns the address that the request came from, as far as trusted
// proxies tell: the last address in X-Forwarded-For that is not one of theirs,
// or the first one where all are. forwarded is false where the peer itself is
// the client.
//
// The header is read from its end, since everything before what a trusted proxy
// has written is anybody's word. It ends at the first thing that is no address.
func (p *proxies) client(r *http.Request) (ip netip.Addr, forwarded bool) {
	ip, isIP := peer(r)
	if isIP && !p.trust(ip) || !isIP && !p.unix {
		return ip, false
	}
	for _, line := range slices.Backward(r.Header.Values("X-Forwarded-For")) {
		for rest, more := line, true; more; {
			var text string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, text = rest[:comma], rest[comma+1:]
			} else {
				text, more = rest, false
			}
			hop, ok := parseHop(strings.TrimSpace(text))
			if !ok {
				return ip, forwarded
			}
			ip, forwarded = hop, true
			if !p.trust(hop) {
				return ip, true
			}
		}
	}
	return ip, forwarded
}

// parseHop reads an address as proxies write it: with or without a port, one of
// IPv6 with or without brackets.
func parseHop(text string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	inner, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		if text, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return netip.Addr{}, false
		}
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || bracketed && ip.Is4() {
		return netip.Addr{}, false
	}
	return ip.Unmap().WithZone(""), true
}

// peer is who is at the other end of the connection; ok is false on a unix
// socket.
func peer(r *http.Request) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap().WithZone(""), true
}

// forwardedAddr is what RemoteAddr becomes for a client behind a proxy: its port
// is not known.
func forwardedAddr(ip netip.Addr) string { return net.JoinHostPort(ip.String(), "0") }

// ClientAddr returns the address of the client of a request that a [Server]
// serves: that of the connection, or the one that a trusted proxy names in
// X-Forwarded-For (server.trusted_proxies). It is RemoteAddr without the port;
// where a proxy named the client, the Server has put it there with port 0, so
// that gin.Context.ClientIP of an engine that trusts no proxy by itself returns
// it too. It is invalid for a client on a unix socket that no proxy speaks for;
// ClientIP is empty then.
func ClientAddr(r *http.Request) netip.Addr {
	ip, _ := peer(r)
	return ip
}

// socketAddr is the local address of a request that came over a unix socket. It
// does not say so: gin would believe every header of such a request, whoever has
// connected.
type socketAddr struct{ *net.UnixAddr }

func (socketAddr) Network() string { return "socket" }

// withSocketAddr puts it where net/http has put the address.
func withSocketAddr(ctx context.Context, local net.Addr) context.Context {
	if addr, ok := local.(*net.UnixAddr); ok {
		return context.WithValue(ctx, http.LocalAddrContextKey, socketAddr{addr})
	}
	return ctx
}
