package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
)

// legacyEncrypted is a key as openssl encrypted it before PKCS #8.
func legacyEncrypted() string {
	return string(pem.EncodeToMemory(&pem.Block{
		Type: "EC PRIVATE KEY", Bytes: []byte("s3cr3t bytes, encrypted"),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
	}))
}

// Each kind of bad content is refused, inline and from a file, with the part it
// is in, and without a piece of it in the message.
func TestBadContent(t *testing.T) {
	ca := newAuthority("authority")
	cert, key := testcert.PEM(ca.Issue("one"))
	_, otherKey := testcert.PEM(ca.Issue("two"))
	ed := try(x509.MarshalPKCS8PrivateKey(func() ed25519.PrivateKey {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return try(k, err)
	}()))
	torn := func(s string) string { return s[:len(s)/2] }
	const garbage = "s3cr3t garbage"
	badCert := encode("CERTIFICATE", []byte("s3cr3t no DER"))

	tests := []struct {
		name          string
		cert, key, ca string
		mutual        bool
		at, reason    string
		inlineOnly    bool
	}{
		{name: "key of another certificate", cert: cert, key: otherKey, at: "key", reason: "does not belong to the certificate"},
		{name: "key of another kind", cert: cert, key: encode("PRIVATE KEY", ed), at: "key", reason: "does not belong to the certificate"},
		{name: "chain before the leaf", cert: ca.PEM + cert, key: key, at: "key", reason: "must come first"},
		{name: "cert empty", key: key, at: "cert", reason: "is missing", inlineOnly: true},
		{name: "cert blank", cert: " \n", key: key, at: "cert", reason: "is empty|is missing"},
		{name: "cert is garbage", cert: garbage, key: key, at: "cert", reason: "no PEM block|neither a PEM text"},
		{name: "cert is a key", cert: key, key: key, at: "cert", reason: "holds a private key where a certificate is wanted"},
		{name: "cert with a key beside it", cert: cert + key, key: key, at: "cert", reason: "belongs into key", inlineOnly: true},
		{name: "cert without CERTIFICATE", cert: encode("PUBLIC KEY", []byte("s3cr3t")), key: key, at: "cert", reason: "no CERTIFICATE block"},
		{name: "cert is no DER", cert: badCert, key: key, at: "cert", reason: "block 1 cannot be parsed"},
		{name: "chain is no DER", cert: cert + badCert, key: key, at: "cert", reason: "block 2 cannot be parsed"},
		{name: "cert cut off", cert: torn(cert), key: key, at: "cert", reason: "cut off or malformed"},
		{name: "chain cut off", cert: cert + torn(ca.PEM), key: key, at: "cert", reason: "cut off or malformed"},
		{name: "cert too large", cert: cert + strings.Repeat("#", maxSize), key: key, at: "cert", reason: "larger than 1 MiB"},
		{name: "key empty", cert: cert, at: "key", reason: "is missing", inlineOnly: true},
		{name: "key blank", cert: cert, key: "\n", at: "key", reason: "is empty|is missing"},
		{name: "key is garbage", cert: cert, key: garbage, at: "key", reason: "no PEM block|neither a PEM text"},
		{name: "key is a certificate", cert: cert, key: cert, at: "key", reason: "holds a certificate where a private key is wanted"},
		{name: "key without PRIVATE KEY", cert: cert, key: encode("EC PARAMETERS", []byte("s3cr3t")), at: "key", reason: "no PRIVATE KEY block"},
		{name: "key is no DER", cert: cert, key: encode("PRIVATE KEY", []byte("s3cr3t")), at: "key", reason: "cannot be parsed"},
		{name: "key cut off", cert: cert, key: torn(key), at: "key", reason: "cut off or malformed"},
		{name: "key with a password, PKCS #8", cert: cert, key: encode("ENCRYPTED PRIVATE KEY", []byte("s3cr3t")), at: "key", reason: "protected by a password"},
		{name: "key with a password, openssl", cert: cert, key: legacyEncrypted(), at: "key", reason: "protected by a password"},
		{name: "key too large", cert: cert, key: key + strings.Repeat("#", maxSize), at: "key", reason: "larger than 1 MiB"},
		{name: "client CA blank", cert: cert, key: key, ca: " ", at: "client_ca", reason: "is empty|is missing"},
		{name: "client CA is garbage", cert: cert, key: key, ca: garbage, at: "client_ca", reason: "no PEM block|neither a PEM text"},
		{name: "client CA is a key", cert: cert, key: key, ca: key, at: "client_ca", reason: "holds a private key"},
		{name: "client CA without certificate", cert: cert, key: key, ca: encode("X509 CRL", []byte("s3cr3t")), mutual: true, at: "client_ca", reason: "no CERTIFICATE block"},
		{name: "one client CA is no DER", cert: cert, key: key, ca: ca.PEM + badCert, at: "client_ca", reason: "block 2 cannot be parsed"},
		{name: "mutual without client CA", cert: cert, key: key, mutual: true, at: "client_ca", reason: "is required where clients must have a certificate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inline := Config{Cert: test.cert, Key: configsrc.Secret(test.key), ClientCA: test.ca}
			o := Options{Mutual: test.mutual}
			verify := func(problems []configsrc.Problem, path string) {
				t.Helper()
				if len(problems) != 1 {
					t.Fatalf("problems are %v, want one", problems)
				}
				p := problems[0]
				found := false
				for reason := range strings.SplitSeq(test.reason, "|") {
					found = found || strings.Contains(p.Reason, reason)
				}
				if p.Key != test.at || !found || p.Origin.Name != path {
					t.Errorf("problem is %q, want %s: ... %s, in %q", p, test.at, test.reason, path)
				}
				noContent(t, p.String(), test.cert, test.key, test.ca)
			}
			verify(inline.Problems(o), "")
			verify(openProblems(t, inline, o), "")
			if test.inlineOnly {
				return
			}
			dir := t.TempDir()
			files := inFiles(t, dir, inline)
			if problems := files.Problems(o); problems != nil && test.ca != "" {
				t.Errorf("Problems without reading a file: %v", problems)
			}
			path := filepath.Join(dir, test.at)
			if test.ca == "" && test.at == "client_ca" {
				path = "" // there is no file
			}
			verify(openProblems(t, files, o), path)
		})
	}
}

// inFiles is the config with each part in a file of its key's name.
func inFiles(tb testing.TB, dir string, c Config) Config {
	tb.Helper()
	write := func(name, text string) string {
		if text == "" {
			return ""
		}
		path := filepath.Join(dir, name)
		must(tb, os.WriteFile(path, []byte(text), 0o600))
		return "file:" + path
	}
	return Config{
		Cert: write("cert", c.Cert), Key: configsrc.Secret(write("key", string(c.Key))), ClientCA: write("client_ca", c.ClientCA),
	}
}

// openProblems are those for which Open refuses the config.
func openProblems(tb testing.TB, c Config, o Options) []configsrc.Problem {
	tb.Helper()
	s, err := Open(tb.Context(), c, o)
	if err == nil {
		_ = s.Close()
		tb.Fatal("Open took it")
	}
	var invalid *configsrc.InvalidError
	if !errors.As(err, &invalid) {
		tb.Fatalf("Open: %v, want an InvalidError", err)
	}
	if errors.As(err, new(*fs.PathError)) {
		tb.Errorf("Open: %v, which is taken for an error of the file system", err)
	}
	return invalid.Problems
}

// noContent fails where a message holds a piece of one of the texts.
func noContent(tb testing.TB, message string, texts ...string) {
	tb.Helper()
	if strings.Contains(message, "s3cr3t") {
		tb.Errorf("%q holds content", message)
	}
	for _, text := range texts {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); len(line) > 20 && strings.Contains(message, line) {
				tb.Errorf("%q holds content", message)
			}
		}
	}
}

func TestOutdated(t *testing.T) {
	ca := newAuthority("authority")
	tests := []struct {
		name, reason, warning string
		edit                  func(*x509.Certificate)
	}{
		{"expired", "expired on 2", "certificate has expired", expired},
		{"not yet valid", "is not valid before 2", "certificate is not valid yet", future},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := ca.config("old", test.edit)
			if problems := c.Problems(Options{}); problems != nil {
				t.Errorf("Problems, which has no clock: %v", problems)
			}
			problems := openProblems(t, c, Options{})
			if len(problems) != 1 || problems[0].Key != "cert" || !strings.Contains(problems[0].Reason, test.reason) {
				t.Errorf("problems are %v, want cert: %s...", problems, test.reason)
			}
			var log journal
			s, err := Open(t.Context(), c, Options{AllowOutdated: true, Logger: log.logger()})
			must(t, err)
			defer s.Close() //nolint:errcheck // it was only opened
			log.want(t, 1, test.warning)
			log.want(t, 1, "not_after="+stamp(s.Load().NotAfter()))
			log.want(t, 1, "subject=\"CN=old\"")
		})
	}
}

// Errors of the file system are told from those of the content, because the
// caller tries these again.
func TestFileSystemErrors(t *testing.T) {
	ca := newAuthority("authority")
	dir := t.TempDir()
	good := inFiles(t, dir, ca.config("one"))
	plain := filepath.Join(dir, "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	denied := func(path string) ([]byte, error) {
		if filepath.Base(path) == "denied" {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		}
		return readFile(path)
	}
	for name, path := range map[string]string{
		"missing":        filepath.Join(dir, "none"),
		"a directory":    dir,
		"below a file":   filepath.Join(plain, "x"),
		"not permitted":  filepath.Join(dir, "denied"),
		"a broken link":  link(t, filepath.Join(dir, "none"), filepath.Join(dir, "broken")),
		"a link to self": link(t, filepath.Join(dir, "self"), filepath.Join(dir, "self")),
	} {
		for _, key := range []string{"cert", "key", "client_ca"} {
			t.Run(name+" as "+key, func(t *testing.T) {
				c := good
				switch key {
				case "cert":
					c.Cert = "file:" + path
				case "key":
					c.Key = configsrc.Secret("file:" + path)
				case "client_ca":
					c.ClientCA = "file:" + path
				}
				_, err := open(t.Context(), c, Options{}, system{readFile: denied, notify: newNotifier})
				var pathErr *fs.PathError
				if !errors.As(err, &pathErr) || pathErr.Path != path {
					t.Fatalf("error is %v, want a PathError about %s", err, path)
				}
				if errors.Is(err, configsrc.ErrInvalid) || !strings.Contains(err.Error(), "read "+key+": ") {
					t.Errorf("error is %v, want one that names %s and is not ErrInvalid", err, key)
				}
			})
		}
	}
}

func link(tb testing.TB, target, path string) string {
	tb.Helper()
	must(tb, os.Symlink(target, path))
	return path
}

func TestGoodContent(t *testing.T) {
	ca, clients := newAuthority("authority"), newAuthority("clients")
	cert, key := testcert.PEM(ca.Issue("one"))
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	rsaKey := try(rsa.GenerateKey(rand.Reader, 2048))
	rsaCert, _ := testcert.PEM(ca.IssueFor(rsaKey, "rsa"))
	ecKey := try(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ecCert, _ := testcert.PEM(ca.IssueFor(ecKey, "ec"))
	ec := try(x509.MarshalECPrivateKey(ecKey))
	dir := t.TempDir()
	combined := filepath.Join(dir, "combined.pem")
	must(t, os.WriteFile(combined, []byte(key+cert+ca.PEM), 0o600))

	tests := []struct {
		name string
		c    Config
		o    Options
		auth tls.ClientAuthType
		n    int // certificates of the chain
	}{
		{"plain", Config{Cert: cert, Key: configsrc.Secret(key)}, Options{}, tls.NoClientCert, 1},
		{"chain, words, a byte order mark, CRLF", Config{Cert: "\uFEFF" + crlf(cert) + "the root:\n" + crlf(ca.PEM), Key: configsrc.Secret("\uFEFF" + crlf(key))}, Options{}, tls.NoClientCert, 2},
		{"PKCS #1", Config{Cert: rsaCert, Key: configsrc.Secret(encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)))}, Options{}, tls.NoClientCert, 1},
		{"SEC 1 with parameters", Config{Cert: ecCert, Key: configsrc.Secret(encode("EC PARAMETERS", []byte{6, 0}) + encode("EC PRIVATE KEY", ec))}, Options{}, tls.NoClientCert, 1},
		{"one file for both", Config{Cert: "file:" + combined, Key: configsrc.Secret("file:" + combined)}, Options{}, tls.NoClientCert, 2},
		{"client certificates wanted", Config{Cert: cert, Key: configsrc.Secret(key), ClientCA: clients.PEM}, Options{}, tls.VerifyClientCertIfGiven, 1},
		{"client certificates required", Config{Cert: cert, Key: configsrc.Secret(key), ClientCA: clients.PEM + ca.PEM}, Options{Mutual: true}, tls.RequireAndVerifyClientCert, 1},
	}
	seen := map[string]string{}
	for _, test := range tests {
		if problems := test.c.Problems(test.o); problems != nil {
			t.Errorf("%s: problems: %v", test.name, problems)
		}
		s, err := Open(t.Context(), test.c, test.o)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		m := s.Load()
		must(t, s.Close())
		if m.clientAuth != test.auth || (m.clientCAs == nil) != (test.auth == tls.NoClientCert) {
			t.Errorf("%s: client certificates: %v", test.name, m.clientAuth)
		}
		if n := len(m.certificate[0].Certificate); n != test.n {
			t.Errorf("%s: %d certificates in the chain, want %d", test.name, n, test.n)
		}
		if diff := cmp.Diff([]string{testcert.Host}, m.DNSNames()); diff != "" {
			t.Errorf("%s: DNS names (-want +got):\n%s", test.name, diff)
		}
		if other, ok := seen[m.Fingerprint()]; ok {
			if len(m.certificate[0].Certificate) == 2 {
				continue // the same chain from a file and from a text
			}
			t.Errorf("%s and %s have one fingerprint", test.name, other)
		}
		seen[m.Fingerprint()] = test.name
	}
}

// A problem of one part is found although the others are in files.
func TestProblemsBesideFiles(t *testing.T) {
	c := Config{Cert: "file:none", Key: "s3cr3t", ClientCA: "file:"}
	var keys []string
	for _, p := range c.Problems(Options{}) {
		keys = append(keys, p.Key)
	}
	if diff := cmp.Diff([]string{"key", "client_ca"}, keys); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	ca := newAuthority("authority")
	cert, key := testcert.PEM(ca.Issue("one"))
	f.Add([]byte(cert), []byte(key), []byte(ca.PEM))
	f.Add([]byte(cert+ca.PEM), []byte(key), []byte(""))
	f.Add([]byte(key), []byte(cert), []byte(key))
	f.Add([]byte(cert[:100]), []byte(legacyEncrypted()), []byte("-----BEGIN "))
	f.Fuzz(func(t *testing.T, cert, key, clientCA []byte) {
		for _, mutual := range []bool{false, true} {
			s := newSet(Config{})
			s.cert.pem, s.key.pem, s.clientCA.pem = cert, key, clientCA
			m, problems := s.parse(mutual)
			if (m == nil) == (problems == nil) {
				t.Fatalf("material %v and problems %v", m != nil, problems)
			}
			if m == nil {
				continue
			}
			if _, err := tls.X509KeyPair(trimMark(cert), trimMark(key)); err != nil {
				t.Fatalf("crypto/tls does not take the pair: %v", err)
			}
			if (m.clientAuth == tls.NoClientCert) != (len(clientCA) == 0) || mutual && m.clientAuth != tls.RequireAndVerifyClientCert {
				t.Fatalf("client certificates are %v with %d bytes of authorities, mutual %v", m.clientAuth, len(clientCA), mutual)
			}
		}
	})
}
