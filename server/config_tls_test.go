package server

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
)

func TestValidateTLS(t *testing.T) {
	ca := testcert.NewAuthority("authority")
	cert, key := testcert.PEM(ca.Issue("server"))
	_, otherKey := testcert.PEM(ca.Issue("other"))
	const secret = "secret, and no PEM"
	for _, tt := range []struct {
		name               string
		mode               string
		cert, key, ca      string
		missing, malformed []string // keys
	}{
		{name: "off", mode: ModeOff},
		{name: "off without saying so", mode: ""},
		{name: "off, and something for later", mode: ModeOff, cert: secret, key: secret},
		{name: "tls", mode: ModeTLS, cert: cert, key: key},
		{name: "tls by files", mode: ModeTLS, cert: "file:/no/such/cert", key: "file:/no/such/key"},
		{name: "tls, and authorities for later", mode: ModeTLS, cert: cert, key: key, ca: secret},
		{name: "mtls", mode: ModeMTLS, cert: cert, key: key, ca: ca.PEM},
		{name: "mtls by a file", mode: ModeMTLS, cert: cert, key: key, ca: "file:ca.pem"},
		{name: "tls without all", mode: ModeTLS, missing: []string{"tls.cert", "tls.key"}},
		{name: "tls without a key", mode: ModeTLS, cert: cert, missing: []string{"tls.key"}},
		{name: "tls without a certificate", mode: ModeTLS, key: key, missing: []string{"tls.cert"}},
		{name: "mtls without all", mode: ModeMTLS, missing: []string{"tls.cert", "tls.client_ca", "tls.key"}},
		{name: "mtls without authorities", mode: ModeMTLS, cert: cert, key: key, missing: []string{"tls.client_ca"}},
		{name: "bad certificate", mode: ModeTLS, cert: secret, key: key, malformed: []string{"tls.cert"}},
		{name: "bad key", mode: ModeTLS, cert: cert, key: secret, malformed: []string{"tls.key"}},
		{name: "another's key", mode: ModeTLS, cert: cert, key: otherKey, malformed: []string{"tls.key"}},
		{name: "bad authorities", mode: ModeMTLS, cert: cert, key: key, ca: secret, malformed: []string{"tls.client_ca"}},
		{name: "all bad", mode: ModeMTLS, cert: secret, key: secret, ca: secret, malformed: []string{"tls.cert", "tls.client_ca", "tls.key"}},
		{name: "off, with a key beside the certificate", mode: ModeOff, cert: cert + key, malformed: []string{"tls.cert"}},
		{name: "a key among the authorities", mode: ModeTLS, cert: cert, key: key, ca: ca.PEM + key, malformed: []string{"tls.client_ca"}},
		{name: "a key beside the certificate", mode: ModeTLS, cert: cert + key, key: key, malformed: []string{"tls.cert"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			c.TLS = TLS{Mode: tt.mode, Cert: tt.cert, Key: configsrc.Secret(tt.key), ClientCA: tt.ca}
			problems := problemsOf(t, c.Validate())
			want := slices.Concat(tt.missing, tt.malformed)
			if d := cmp.Diff(want, slices.Sorted(maps.Keys(problems)), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("keys (-want +got):\n%s", d)
			}
			for _, key := range tt.missing {
				if want := "must be set when server.tls.mode is " + tt.mode + ", as PEM or file:PATH"; problems[key] != want {
					t.Errorf("%s: %s", key, problems[key])
				}
			}
			for _, key := range tt.malformed {
				if problems[key] == "" || strings.Contains(problems[key], "must be set") {
					t.Errorf("%s: %s", key, problems[key])
				}
			}
		})
	}
}

// All that is wrong is told at once.
func TestValidateTellsAll(t *testing.T) {
	c := Default()
	c.Listen = nil
	c.TLS.Mode = ModeTLS
	c.CORS = CORS{Origins: []string{"x"}, Methods: []string{"x"}, Headers: []string{""}}
	c.TrustedProxies = []string{"x"}
	want := []string{"cors.headers[0]", "cors.methods[0]", "cors.origins[0]", "listen", "tls.cert", "tls.key", "trusted_proxies[0]"}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(problemsOf(t, c.Validate())))); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
}

func TestMaterialOfTheSection(t *testing.T) {
	section := TLS{Cert: "a", Key: "b", ClientCA: "c"}
	for mode, want := range map[string][3]bool{ // client CA, mutual, ok
		ModeOff: {false, false, false}, "": {false, false, false}, ModeTLS: {false, false, true}, ModeMTLS: {true, true, true},
	} {
		section.Mode = mode
		c, mutual, ok := section.Material()
		if got := [3]bool{c.ClientCA != "", mutual, ok}; got != want || c.Cert != "a" || c.Key != "b" || section.On() != ok {
			t.Errorf("mode %q: %v, want %v", mode, got, want)
		}
	}
}
