package certs

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestSwapOfCertificate(t *testing.T) {
	ca := newAuthority("authority")
	one, two := material(t, ca.config("one"), false), material(t, ca.config("two"), false)
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			e := serve(t, one, nil)
			c := client(ca.Pool())
			open := e.want(t, c, "one", false)
			e.want(t, c, "one", true)
			e.want(t, c, "one", true)
			e.current.Store(two)
			e.want(t, c, "two", false)
			e.want(t, c, "two", true)
			// Back: the client has a session of two by now.
			e.current.Store(one)
			e.want(t, c, "one", false)
			must(t, ping(open))
			if got := open.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "one" {
				t.Errorf("the open connection is of %s", got)
			}
		})
	}
}

// Equal content in another Material is the same material to a session.
func TestSessionsOutliveEqualMaterial(t *testing.T) {
	ca := newAuthority("authority")
	c := ca.config("one")
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			e := serve(t, material(t, c, false), nil)
			cl := client(ca.Pool())
			e.want(t, cl, "one", false)
			e.current.Store(material(t, c, false))
			e.want(t, cl, "one", true)
		})
	}
}

// net/http serves with a clone of the config.
func TestSessionsUnderClonedConfig(t *testing.T) {
	ca := newAuthority("authority")
	one, two := material(t, ca.config("one"), false), material(t, ca.config("two"), false)
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			e := serve(t, one, (*tls.Config).Clone)
			c := client(ca.Pool())
			e.want(t, c, "one", false)
			e.want(t, c, "one", true)
			e.current.Store(two)
			e.want(t, c, "two", false)
		})
	}
}

func TestSwapOfClientCA(t *testing.T) {
	ca, first, second := newAuthority("authority"), newAuthority("first"), newAuthority("second")
	c := ca.config("one")
	with := func(clientCA string) *Material {
		c.ClientCA = clientCA
		return material(t, c, true)
	}
	both, onlySecond := with(first.PEM+second.PEM), with(second.PEM)
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			e := serve(t, both, nil)
			a, b := client(ca.Pool(), first.Issue("a")), client(ca.Pool(), second.Issue("b"))
			open := e.want(t, a, "one", false)
			e.want(t, a, "one", true)
			e.want(t, b, "one", false)

			e.current.Store(onlySecond)
			e.refused(t, a) // although it has a ticket
			e.want(t, b, "one", false)
			e.want(t, b, "one", true)
			must(t, ping(open))

			// The authority is back, and with it the session that began under it.
			e.current.Store(both)
			_, err := e.dial(t, a)
			must(t, err)
		})
	}
}

// The session is marked beside what others have put there.
func TestSessionExtraIsAppendedTo(t *testing.T) {
	ca := newAuthority("authority")
	m := material(t, ca.config("one"), false)
	c, err := TLS(func() *Material { return m }, TLSOptions{}).GetConfigForClient(&tls.ClientHelloInfo{})
	must(t, err)
	session := &tls.SessionState{Extra: [][]byte{[]byte("other")}}
	if _, err := c.WrapSession(tls.ConnectionState{}, session); err != nil {
		t.Fatal(err)
	}
	if len(session.Extra) != 2 || string(session.Extra[0]) != "other" || !strings.HasPrefix(string(session.Extra[1]), "hotsvc certs 1:") {
		t.Errorf("extra is %q", session.Extra)
	}
	if got, err := c.UnwrapSession([]byte("no ticket"), tls.ConnectionState{}); got != nil || err != nil {
		t.Errorf("a bad ticket: %v, %v; want a full handshake", got, err)
	}
}
