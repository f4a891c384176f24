package admin

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

func TestConfigValidate(t *testing.T) {
	pair := TLS{Cert: "file:cert.pem", Key: "file:key.pem"}
	mutual := TLS{Cert: "file:cert.pem", Key: "file:key.pem", ClientCA: "file:ca.pem"}
	listen := []string{"127.0.0.1:9090"}
	for _, c := range []struct {
		name   string
		config Config
		keys   []string // of the problems
	}{
		{"the default", Default(), nil},
		{"a token", Config{Listen: listen, Token: canary}, nil},
		{"client certificates", Config{Listen: listen, TLS: mutual}, nil},
		{"both", Config{Listen: listen, Token: canary, TLS: mutual}, nil},
		{"a token without an address", Config{Token: canary}, nil},
		{"16 bytes", Config{Token: "0123456789abcdef"}, nil},
		{"all kinds of addresses", Config{Listen: []string{"[::1]:9090", ":9091", "ops.test:9092", "127.0.0.1:0", "127.0.0.1:0"}, Token: canary}, nil},
		{"hosts", Config{Hosts: []string{"ops.test", "OPS", "a_b.test", "10.0.0.1"}}, nil},

		{"nothing to show", Config{Listen: listen}, []string{"listen"}},
		{"a certificate is the server's alone", Config{Listen: listen, TLS: pair}, []string{"listen"}},
		{"15 bytes", Config{Token: "sesame-0123456!"}, []string{"token"}},
		{"a space", Config{Token: "sesame 0123456789"}, []string{"token"}},
		{"a line end", Config{Token: "sesame-0123456789\n"}, []string{"token"}},
		{"not ASCII", Config{Token: "sesame-0123456789é"}, []string{"token"}},
		{"a certificate without its key", Config{TLS: TLS{Cert: "x"}}, []string{"tls.cert"}},
		{"a key without its certificate", Config{TLS: TLS{Key: "x"}}, []string{"tls.key"}},
		{"a CA alone", Config{TLS: TLS{ClientCA: "x"}}, []string{"tls.client_ca"}},
		{"a CA without the key", Config{TLS: TLS{ClientCA: "x", Cert: "x"}}, []string{"tls.cert", "tls.client_ca"}},
		{
			"addresses",
			Config{Token: canary, Listen: []string{"unix:/x", "localhost", "a:b", "a:65536", "a b:1", "LOCALHOST:1", "localhost:01", "[::1]:2", "[0::1]:2"}},
			[]string{"listen[0]", "listen[1]", "listen[2]", "listen[3]", "listen[4]", "listen[6]", "listen[8]"},
		},
		{
			"hosts that are none",
			Config{Hosts: []string{"", "*", "*.test", "a:80", "::1", "a.", ".a", "a..b", "http://a", strings.Repeat("a.", 127) + "a"}},
			[]string{"hosts[0]", "hosts[1]", "hosts[2]", "hosts[3]", "hosts[4]", "hosts[5]", "hosts[6]", "hosts[7]", "hosts[8]", "hosts[9]"},
		},
	} {
		err := c.config.Validate()
		var keys []string
		if invalid, ok := errors.AsType[*configsrc.InvalidError](err); ok {
			for _, p := range invalid.Problems {
				keys = append(keys, p.Key)
			}
		} else if err != nil {
			t.Errorf("%s: %T", c.name, err)
		}
		if diff := cmp.Diff(c.keys, keys); diff != "" {
			t.Errorf("%s: keys of the problems (-want +got):\n%s", c.name, diff)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: the token is in the message: %v", c.name, err)
		}
	}
}
