package certs

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
)

// TLSOptions are what a listener adds to its material.
type TLSOptions struct {
	// NextProtos are the protocols to negotiate (ALPN), the preferred first.
	NextProtos []string
	// Handshaked is called once for each connection that got as far as its
	// parameters: version, protocol, and the client's certificate, verified. That is
	// before the last messages: the client has not yet proved that it has
	// the key of its certificate, HandshakeComplete is false, and the handshake may
	// still fail. It is called for resumed sessions too (DidResume).
	// The connection is the one below TLS, as it was given to [tls.Server] or
	// came from the listener given to [tls.NewListener]. It runs in the
	// handshake and must neither block nor use the connection. May be nil.
	Handshaked func(net.Conn, tls.ConnectionState)
	// TicketKeys returns the keys of session tickets, the one that makes them
	// first, at least one: Keys of [Tickets]. It is called for each handshake and
	// must not block. nil: Go makes keys for this listener alone.
	TicketKeys func() [][32]byte
}

// TLS makes the configuration of a listener, for TLS 1.2 and up with the suites
// that Go prefers. It asks current for each handshake, so what current returns
// counts from the next one on, resumed sessions included; connections that are
// open keep what they have. current must not block or return nil: a handshake
// for which there is no material fails.
//
// The result must live as long as the listener, because the keys of the session
// tickets are in it; without TicketKeys Go changes them every day. It may be cloned, as
// net/http does. Its certificate, client authorities, WrapSession,
// UnwrapSession and VerifyConnection are set for each handshake anew.
func TLS(current func() *Material, o TLSOptions) *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: slices.Clone(o.NextProtos),
	}
	tickets := ticketSetter{config: base, get: o.TicketKeys}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		m := current()
		if m == nil {
			return nil, errors.New("get certificate: there is none in force")
		}
		tickets.set()
		c := base.Clone()
		c.GetConfigForClient = nil
		c.Certificates = m.certificate
		c.ClientAuth, c.ClientCAs = m.clientAuth, m.clientCAs
		// base encrypts and decrypts, not the clone: the keys in a clone would
		// end with the connection.
		label := m.sessionLabel()
		c.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			session.Extra = append(session.Extra, label)
			return base.EncryptTicket(state, session)
		}
		c.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
			session, err := base.DecryptTicket(ticket, state)
			if err != nil || session == nil || !slices.ContainsFunc(session.Extra, func(extra []byte) bool {
				return bytes.Equal(extra, label)
			}) {
				return nil, err // no session: a full handshake follows
			}
			return session, nil
		}
		if o.Handshaked != nil {
			c.VerifyConnection = func(state tls.ConnectionState) error {
				o.Handshaked(hello.Conn, state)
				return nil
			}
		}
		return c, nil
	}
	return base
}

// ticketSetter gives a config the keys of session tickets. They are set only when
// they have changed: that takes more time than the look.
type ticketSetter struct {
	config *tls.Config
	get    func() [][32]byte
	mu     sync.Mutex
	keys   [][32]byte // that were set
}

func (s *ticketSetter) set() {
	if s.get == nil {
		return
	}
	keys := s.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) > 0 && !slices.Equal(keys, s.keys) {
		s.config.SetSessionTicketKeys(keys)
		s.keys = keys
	}
}

// sessionLabel marks the sessions that began under the material. Others may add
// to a session's Extra too, so it begins with whose it is.
func (m *Material) sessionLabel() []byte {
	return append([]byte("hotsvc certs 1:"), m.fingerprint[:]...)
}
