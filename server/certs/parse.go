package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

// maxSize bounds each text, in bytes.
const maxSize = 1 << 20

// parse checks the set and makes it a material. A text whose file was not read
// is passed over, and there is no material then. Texts of crypto/x509's errors are
// not passed on, because some quote the content.
func (s set) parse(mutual bool) (*Material, []configsrc.Problem) {
	var problems []configsrc.Problem
	pending := false
	check := func(t text, f func(blocks) string) {
		if t.pending() {
			pending = true
			return
		}
		b, reason := decode(t)
		if reason == "" {
			reason = f(b)
		}
		if reason != "" {
			problems = append(problems, t.problem(reason))
		}
	}

	var chain, authorities []*x509.Certificate
	check(s.cert, func(b blocks) (reason string) {
		chain, reason = certificates(s.cert, b)
		if reason == "" && !usable(chain[0].PublicKey) {
			reason = "holds a certificate whose key is neither RSA, ECDSA nor Ed25519"
		}
		return reason
	})
	check(s.key, checkKey)
	switch {
	case s.clientCA.pending() || len(s.clientCA.pem) > 0 || s.clientCA.path != "":
		check(s.clientCA, func(b blocks) (reason string) {
			authorities, reason = certificates(s.clientCA, b)
			return reason
		})
	case mutual:
		problems = append(problems, s.clientCA.problem("is required where clients must have a certificate"))
	}
	if len(problems) > 0 || s.cert.pending() || s.key.pending() {
		return nil, problems
	}

	// Both are good by themselves. Without a byte order mark, as decode saw them.
	pair, err := tls.X509KeyPair(trimMark(s.cert.pem), trimMark(s.key.pem))
	if err != nil {
		return nil, []configsrc.Problem{s.key.problem(
			"does not belong to the certificate: the server's own must come first in " + keyCert + ", then its chain")}
	}
	if pending {
		return nil, nil
	}
	return newMaterial(pair, chain[0], authorities, mutual), nil
}

// blocks are the PEM blocks of a text that matter here.
type blocks struct{ certs, keys []*pem.Block }

// decode takes a text apart. It is stricter than crypto/tls, which passes over
// what it cannot read: a block that is cut off would silently be missing.
func decode(t text) (b blocks, reason string) {
	rest := trimMark(t.pem)
	switch {
	case len(t.pem) > maxSize:
		return b, "is larger than 1 MiB"
	case len(bytes.TrimSpace(rest)) == 0 && t.path != "":
		return b, "the file is empty"
	case len(bytes.TrimSpace(rest)) == 0:
		return b, `is missing: give a PEM text, or "file:" and a path`
	}
	begun, decoded := bytes.Count(rest, []byte("-----BEGIN ")), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		decoded++
		switch {
		case block.Type == "CERTIFICATE":
			b.certs = append(b.certs, block)
		case block.Type == "PRIVATE KEY", strings.HasSuffix(block.Type, " PRIVATE KEY"):
			b.keys = append(b.keys, block)
		}
	}
	switch {
	case begun == 0 && t.path == "":
		return b, `is neither a PEM text nor "file:" and a path`
	case begun == 0:
		return b, "the file holds no PEM block"
	case begun != decoded:
		return b, "holds a PEM block that is cut off or malformed"
	}
	return b, ""
}

func trimMark(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\uFEFF")) }

// certificates parses those of cert or client_ca.
func certificates(t text, b blocks) ([]*x509.Certificate, string) {
	switch {
	case len(b.certs) == 0 && len(b.keys) > 0:
		return nil, "holds a private key where a certificate is wanted"
	case len(b.certs) == 0:
		return nil, "holds no CERTIFICATE block"
	case len(b.keys) > 0 && t.path == "":
		return nil, "holds a private key beside the certificate: it belongs into " + keyKey + ", which is masked"
	}
	certs := make([]*x509.Certificate, len(b.certs))
	for i, block := range b.certs {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Sprintf("CERTIFICATE block %d cannot be parsed", i+1)
		}
		certs[i] = cert
	}
	return certs, ""
}

// checkKey looks at the first key, which is the one that crypto/tls takes.
func checkKey(b blocks) string {
	switch {
	case len(b.keys) == 0 && len(b.certs) > 0:
		return "holds a certificate where a private key is wanted"
	case len(b.keys) == 0:
		return "holds no PRIVATE KEY block"
	}
	first := b.keys[0]
	if first.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(first.Headers["Proc-Type"], "ENCRYPTED") {
		return "is protected by a password, and nobody is there to type it: store the key without one"
	}
	if !usable(parseKey(first.Bytes)) {
		return "cannot be parsed as an RSA, ECDSA or Ed25519 key"
	}
	return ""
}

// parseKey is nil for what is no key. The label of the block does not count:
// there are programs that write the wrong one.
func parseKey(der []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// usable reports whether crypto/tls can serve with a key, public or private.
func usable(key any) bool {
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey,
		*rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return true
	}
	return false
}
