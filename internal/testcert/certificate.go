package testcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"time"
)

// Host is the DNS name that certificates are for, unless [Hosts] says otherwise.
// It is reserved (RFC 2606): nothing resolves it.
const Host = "svc.test"

// SelfSigned is as [Authority.Issue], but the certificate is its own authority.
func SelfSigned(name string, edit ...func(*x509.Certificate)) tls.Certificate {
	own := func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage |= x509.KeyUsageCertSign
	}
	c := leaf(name, append([]func(*x509.Certificate){own}, edit...))
	key := newKey()
	return sign(c, c, key, key)
}

// Hosts is an edit func that makes a certificate one for these IP addresses and
// DNS names, and for no others.
func Hosts(hosts ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, nil
		for _, host := range hosts {
			if ip := net.ParseIP(host); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, host)
			}
		}
	}
}

// PEM is the chain and the private key, that one in PKCS #8, as texts.
func PEM(c tls.Certificate) (cert, key string) {
	var chain strings.Builder
	for _, der := range c.Certificate {
		chain.WriteString(encode("CERTIFICATE", der))
	}
	return chain.String(), encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(c.PrivateKey)))
}

// template is what all certificates begin with.
func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
	}
}

func leaf(name string, edit []func(*x509.Certificate)) *x509.Certificate {
	c := template(name)
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	Hosts(Host, "127.0.0.1")(c)
	for _, f := range edit {
		f(c)
	}
	return c
}

// sign makes the certificate of key, signed by parent with the key of parent.
func sign(c, parent *x509.Certificate, key, parentKey crypto.Signer) tls.Certificate {
	der := must(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
