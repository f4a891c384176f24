package certs

import (
	"bytes"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

// Config names the material of a listener. Each field is a PEM text, or "file:"
// and a path. A relative path is taken from the working directory at Open. A
// text or file is at most 1 MiB. Configs are comparable; equal ones that name
// files may have different material at different times.
type Config struct {
	// Cert is the certificate of the server, and after it the rest of its
	// chain. Required. A file may hold the key too; a text may not, because this
	// field is shown to whoever may see the configuration.
	Cert string `config:"cert"`
	// Key is the private key of the certificate: PKCS #8, PKCS #1 or SEC 1,
	// without a password. Required.
	Key configsrc.Secret `config:"key"`
	// ClientCA are the authorities whose client certificates are accepted.
	// Empty: no client is asked for one.
	ClientCA string `config:"client_ca"`
}

// Problems is what is wrong with a config as far as it can be seen without
// opening a file and without looking at the clock: what is missing, and PEM texts
// that are no good. Its keys are those of the fields: cert, key, client_ca. Open
// refuses what has problems. Of the options it looks at Mutual alone.
func (c Config) Problems(o Options) []configsrc.Problem {
	_, problems := newSet(c).parse(o.Mutual)
	return problems
}

// The keys of the parts, as they are in the configuration.
const (
	keyCert     = "cert"
	keyKey      = "key"
	keyClientCA = "client_ca"
)

// text is one part of a config.
type text struct {
	key  string // its key in the configuration
	path string // of its file; empty where the config holds the PEM itself
	pem  []byte // nil as long as the file was not read
}

func newText(key, value string) text {
	if path, ok := strings.CutPrefix(strings.TrimSpace(value), "file:"); ok && path != "" {
		return text{key: key, path: path}
	}
	return text{key: key, pem: []byte(value)}
}

// pending reports whether the file is still to be read.
func (t text) pending() bool { return t.path != "" && t.pem == nil }

func (t text) problem(reason string) configsrc.Problem {
	p := configsrc.Problem{Key: t.key, Reason: reason}
	if t.path != "" {
		p.Origin = configsrc.Origin{Source: "file", Name: t.path}
	}
	return p
}

// set is the three parts of a config at one moment.
type set struct{ cert, key, clientCA text }

func newSet(c Config) set {
	return set{
		cert:     newText(keyCert, c.Cert),
		key:      newText(keyKey, string(c.Key)),
		clientCA: newText(keyClientCA, c.ClientCA),
	}
}

func (s *set) texts() []*text { return []*text{&s.cert, &s.key, &s.clientCA} }

// paths are the files of the set.
func (s *set) paths() []string {
	var paths []string
	for _, t := range s.texts() {
		if t.path != "" {
			paths = append(paths, t.path)
		}
	}
	return paths
}

// differ are the keys of the parts that are not the same.
func (s *set) differ(other *set) []string {
	var keys []string
	for i, t := range s.texts() {
		if !bytes.Equal(t.pem, other.texts()[i].pem) {
			keys = append(keys, t.key)
		}
	}
	return keys
}

func (s *set) equal(other *set) bool { return len(s.differ(other)) == 0 }
