package main

import (
	"fmt"
	"testing"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/reload"
)

// TestAdminAccess: what is asked for is all that the revision names, made once.
func TestAdminAccess(t *testing.T) {
	cert, key, _ := selfSigned(t, t.TempDir(), "operator")
	with := func(content string) *adminAccess {
		var c certificates
		startManager(t, content, func(m *reload.Manager[Config]) {
			c = registerCertificates(m, nil, func() bool { return false })
		})
		return newAdminAccess(c)
	}
	plain := with("admin: {token: " + adminToken + "}\n").load()
	if plain.Config.Token != adminToken || plain.TLS != nil || plain.VerifyClient != nil {
		t.Errorf("plaintext: %+v", plain)
	}
	encrypted := with(fmt.Sprintf("admin: {token: %s, tls: {cert: 'file:%s', key: 'file:%s'}}\n", adminToken, cert, key)).load()
	if encrypted.TLS == nil || encrypted.VerifyClient != nil {
		t.Errorf("TLS: %+v", encrypted)
	}
	a := with(fmt.Sprintf("admin: {tls: {cert: 'file:%s', key: 'file:%s', client_ca: 'file:%s'}}\n", cert, key, cert))
	mutual := a.load()
	if mutual.TLS == nil || mutual.VerifyClient == nil || mutual.VerifyClient(nil) == nil {
		t.Errorf("client certificates: %+v", mutual)
	}
	if n := testing.AllocsPerRun(100, func() {
		if a.load() != mutual {
			t.Error("it was made anew")
		}
	}); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

func TestReadable(t *testing.T) {
	for _, c := range []struct {
		config admin.Config
		want   int
	}{
		{admin.Config{Token: adminToken, Listen: []string{"127.0.0.1:9", "[::1]:9", "localhost:9", "127.8.8.8:9"}}, 0},
		{admin.Config{Token: adminToken, Listen: []string{"127.0.0.1:9", ":9", "0.0.0.0:9", "[::]:9", "svc.example.com:9", "192.0.2.1:9"}}, 5},
		{admin.Config{Token: adminToken, Listen: []string{":9"}, TLS: admin.TLS{Cert: "file:x"}}, 0},
		{admin.Config{Listen: []string{":9"}}, 0},
	} {
		if got := readable(c.config); len(got) != c.want {
			t.Errorf("%v: %v", c.config.Listen, got)
		}
	}
}
