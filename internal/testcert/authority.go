package testcert

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"time"
)

// Authority signs certificates of servers and clients. It may be used from many
// goroutines.
type Authority struct {
	Cert *x509.Certificate
	PEM  string // of Cert

	key crypto.Signer
}

// NewAuthority makes a root with that common name, valid for 20 years. Two of
// one name are two authorities; a client that a server asks for certificates of
// one shows those of the other too, because it goes by the name.
func NewAuthority(name string) *Authority {
	key := newKey()
	root := template(name)
	root.NotAfter = time.Now().AddDate(20, 0, 0)
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	cert := sign(root, root, key, key).Leaf
	return &Authority{Cert: cert, PEM: encode("CERTIFICATE", cert.Raw), key: key}
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	return pool
}

// Issue makes a certificate with that common name and a new key. Unless edit
// says otherwise it is for [Host] and 127.0.0.1, for servers and for clients,
// and valid for a year.
func (a *Authority) Issue(name string, edit ...func(*x509.Certificate)) tls.Certificate {
	return a.IssueFor(newKey(), name, edit...)
}

// IssueFor is [Authority.Issue] for a key of any kind that crypto/x509 knows.
func (a *Authority) IssueFor(key crypto.Signer, name string, edit ...func(*x509.Certificate)) tls.Certificate {
	return sign(leaf(name, edit), a.Cert, key, a.key)
}
