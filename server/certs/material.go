package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Material is one set of certificate, key and client authorities that was
// checked as a whole. It never changes; its methods may be called from any
// goroutine.
type Material struct {
	leaf        *x509.Certificate
	certificate []tls.Certificate // one, with its chain and key
	clientAuth  tls.ClientAuthType
	clientCAs   *x509.CertPool
	fingerprint [sha256.Size]byte
}

func newMaterial(certificate tls.Certificate, leaf *x509.Certificate, authorities []*x509.Certificate, mutual bool) *Material {
	certificate.Leaf = leaf // crypto/tls leaves it nil under a GODEBUG setting
	m := &Material{leaf: leaf, certificate: []tls.Certificate{certificate}}
	if len(authorities) > 0 {
		m.clientCAs = x509.NewCertPool()
		m.clientAuth = tls.VerifyClientCertIfGiven
		if mutual {
			m.clientAuth = tls.RequireAndVerifyClientCert
		}
	}
	// Each element has its length before it and the first list its count, so that
	// no two materials run together to the same bytes.
	var b []byte
	b = binary.BigEndian.AppendUint64(b, uint64(m.clientAuth)) //nolint:gosec // a small constant of crypto/tls
	b = binary.BigEndian.AppendUint64(b, uint64(len(certificate.Certificate)))
	for _, der := range certificate.Certificate {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(der))), der...)
	}
	for _, ca := range authorities {
		m.clientCAs.AddCert(ca)
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(ca.Raw))), ca.Raw...)
	}
	m.fingerprint = sha256.Sum256(b)
	return m
}

// NotAfter is the end of the server certificate. Ends in its chain do not count:
// chains carry certificates of other roots that no client needs any more.
func (m *Material) NotAfter() time.Time { return m.leaf.NotAfter }

// Subject is the name that the server certificate is issued to: its
// distinguished name, or its DNS names where that is empty.
func (m *Material) Subject() string {
	return cmp.Or(m.leaf.Subject.String(), strings.Join(m.leaf.DNSNames, ","))
}

// DNSNames are the DNS names that the server certificate is for, wildcards
// included. The slice belongs to the caller.
func (m *Material) DNSNames() []string { return slices.Clone(m.leaf.DNSNames) }

// ClientCAs are the authorities whose client certificates are accepted, for who
// verifies a certificate again after the handshake; nil where there are none. The
// pool belongs to the caller.
func (m *Material) ClientCAs() *x509.CertPool {
	if m.clientCAs == nil {
		return nil
	}
	return m.clientCAs.Clone()
}

// Mutual reports whether every client must have a certificate of ClientCAs.
func (m *Material) Mutual() bool { return m.clientAuth == tls.RequireAndVerifyClientCert }

// Fingerprint is 64 hex digits that tell this material from every other: the
// SHA-256 of its certificates, its client authorities and whether clients must
// have a certificate. It holds no secret. It is not the fingerprint of the
// certificate.
func (m *Material) Fingerprint() string { return hex.EncodeToString(m.fingerprint[:]) }

// outdated says why the certificate is not valid now; empty where it is.
func (m *Material) outdated(now time.Time) string {
	switch {
	case now.After(m.leaf.NotAfter):
		return "expired on " + stamp(m.leaf.NotAfter)
	case now.Before(m.leaf.NotBefore):
		return "is not valid before " + stamp(m.leaf.NotBefore)
	}
	return ""
}

// expiresSoon is the time from which the end is worth a warning: 30 days before
// it, or a third of its lifetime where it lives less than 90 days.
func (m *Material) expiresSoon() time.Time {
	lifetime := m.leaf.NotAfter.Sub(m.leaf.NotBefore)
	return m.leaf.NotAfter.Add(-min(30*24*time.Hour, lifetime/3))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
