package admin

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// failedBurst is how many attempts of a client may fail at once, and
	// failedInterval how long it then waits for each further one.
	failedBurst    = 10
	failedInterval = 6 * time.Second
	// maxClients bounds how many clients are remembered. The one whose last
	// failure is the oldest makes room.
	maxClients = 1024
)

// attempts counts the failed attempts of each client.
type attempts struct {
	mu      sync.Mutex
	clients map[netip.Prefix]*failures
}

type failures struct {
	limit *rate.Limiter
	last  time.Time
}

// wait returns how long the client must wait before it is heard again; not at
// all where it is not positive. It counts nothing.
func (a *attempts) wait(client netip.Prefix, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.clients[client]
	if !ok {
		return 0
	}
	missing := 1 - f.limit.TokensAt(now)
	return time.Duration(missing * float64(failedInterval))
}

// fail counts a failed attempt.
func (a *attempts) fail(client netip.Prefix, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.clients[client]
	if !ok {
		a.makeRoom()
		f = &failures{limit: rate.NewLimiter(rate.Every(failedInterval), failedBurst)}
		a.clients[client] = f
	}
	f.last = now
	// It is false for attempts in parallel that passed wait together. There are
	// no more of them than connections.
	f.limit.AllowN(now, 1)
}

func (a *attempts) makeRoom() {
	if len(a.clients) < maxClients {
		return
	}
	var oldest netip.Prefix
	var since time.Time
	for client, f := range a.clients {
		if since.IsZero() || f.last.Before(since) {
			oldest, since = client, f.last
		}
	}
	delete(a.clients, oldest)
}

// clientPrefix is what a client's attempts are counted under: an IPv4 address,
// or the /64 that a host with IPv6 chooses its addresses from. An address that
// cannot be read shares one count with all others of that kind.
func clientPrefix(remoteAddr string) netip.Prefix {
	peer, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	ip := peer.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
