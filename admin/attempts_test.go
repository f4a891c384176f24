package admin

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestAttempts(t *testing.T) {
	a := attempts{clients: map[netip.Prefix]*failures{}}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	client, other := clientPrefix("192.0.2.1:1"), clientPrefix("192.0.2.2:1")
	for i := range failedBurst {
		if wait := a.wait(client, now); wait > 0 {
			t.Fatalf("after %d failures: %v", i, wait)
		}
		a.fail(client, now)
	}
	a.fail(client, now) // in parallel with the last one
	if wait := a.wait(client, now); wait != failedInterval {
		t.Errorf("wait %v, want %v", wait, failedInterval)
	}
	if wait := a.wait(other, now); wait > 0 {
		t.Errorf("another client waits %v", wait)
	}
	now = now.Add(failedInterval / 2)
	if wait := a.wait(client, now); wait != failedInterval/2 {
		t.Errorf("wait %v, want %v", wait, failedInterval/2)
	}
	now = now.Add(failedInterval / 2)
	if wait := a.wait(client, now); wait > 0 {
		t.Errorf("after the interval: %v", wait)
	}
	a.fail(client, now)
	if wait := a.wait(client, now); wait <= 0 {
		t.Error("one more failure is one more interval")
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	a := attempts{clients: map[netip.Prefix]*failures{}}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(i int) netip.Prefix {
		return clientPrefix(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1).String())
	}
	for i := range maxClients {
		a.fail(at(i), now.Add(time.Duration(i)*time.Second))
	}
	a.fail(at(0), now.Add(maxClients*time.Second)) // no longer the oldest
	a.fail(at(maxClients), now.Add((maxClients+1)*time.Second))
	if n := len(a.clients); n != maxClients {
		t.Errorf("%d clients, want %d", n, maxClients)
	}
	for i, want := range map[int]bool{0: true, 1: false, 2: true, maxClients: true} {
		if _, ok := a.clients[at(i)]; ok != want {
			t.Errorf("client %d is remembered: %v, want %v", i, ok, want)
		}
	}
}

func TestClientPrefix(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.1:80", "192.0.2.1/32"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1/32"},
		{"[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:80", "fe80::/64"},
		{"@", "invalid Prefix"},
		{"", "invalid Prefix"},
	} {
		if got := fmt.Sprint(clientPrefix(c.addr)); got != c.want {
			t.Errorf("%s: %s, want %s", c.addr, got, c.want)
		}
	}
}
