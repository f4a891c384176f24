package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotsvc/svc/admin"
)

const adminToken = "canary-0123456789-abcdefghijklmnop"

// operator is an operator's listener on TCP that answers that all is well.
func operator(t *testing.T, a *admin.Access) (address string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := admin.Handler(admin.Backend{Status: func() any { return status{Healthy: true, Version: "from-tcp"} }}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- admin.ServeTCP(ctx, []net.Listener{l}, handler, func() *admin.Access { return a }, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestAdminCredentials: the commands find a service on TCP by SVC_ADMIN and what
// goes with it, and say what is wrong with that.
func TestAdminCredentials(t *testing.T) {
	dir := t.TempDir()
	cert, key, pair := selfSigned(t, dir, "server")
	clientCert, clientKey, client := selfSigned(t, dir, "client")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tokenFile, empty, text := write("token", adminToken+"\n"), write("empty", "\n"), write("text", "no PEM")
	large, missing := write("large", strings.Repeat("x", maxCredential+1)), filepath.Join(dir, "missing")

	clients := x509.NewCertPool()
	clients.AddCert(client.Leaf)
	plain := operator(t, &admin.Access{Config: &admin.Config{Token: adminToken}})
	mutual := "https://" + operator(t, &admin.Access{
		Config: &admin.Config{Token: adminToken},
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		},
		VerifyClient: admin.VerifyClientBy(clients),
	})
	all := map[string]string{"SVC_ADMIN": mutual, "SVC_ADMIN_TOKEN": adminToken, "SVC_ADMIN_CA": cert, "SVC_ADMIN_CERT": clientCert, "SVC_ADMIN_KEY": clientKey}

	for _, c := range []struct {
		name string
		base map[string]string
		env  map[string]string
		code int
		says []string
	}{
		{"token", nil, map[string]string{"SVC_ADMIN": plain, "SVC_ADMIN_TOKEN": adminToken}, 0, []string{"from-tcp"}},
		{"token in a file", nil, map[string]string{"SVC_ADMIN": plain, "SVC_ADMIN_TOKEN_FILE": tokenFile}, 0, []string{"from-tcp"}},
		{"everything", all, nil, 0, []string{"from-tcp"}},
		{"no token", nil, map[string]string{"SVC_ADMIN": plain}, 1, []string{"valid credentials", "SVC_ADMIN_TOKEN"}},
		{"wrong token", all, map[string]string{"SVC_ADMIN_TOKEN": "wrong"}, 1, []string{"valid credentials", "SVC_ADMIN_TOKEN"}},
		{"no CA", all, map[string]string{"SVC_ADMIN_CA": ""}, 1, []string{"not trusted", "SVC_ADMIN_CA"}},
		{"another CA", all, map[string]string{"SVC_ADMIN_CA": clientCert}, 1, []string{"not trusted", "SVC_ADMIN_CA"}},
		{"no client certificate", all, map[string]string{"SVC_ADMIN_CERT": "", "SVC_ADMIN_KEY": ""}, 1, []string{"SVC_ADMIN_CERT", "certificate required"}},

		{"two tokens", all, map[string]string{"SVC_ADMIN_TOKEN_FILE": tokenFile}, 2, []string{"SVC_ADMIN_TOKEN and SVC_ADMIN_TOKEN_FILE", "one of them"}},
		{"two tokens for the socket", nil, map[string]string{"SVC_ADMIN_TOKEN": adminToken, "SVC_ADMIN_TOKEN_FILE": tokenFile}, 2, []string{"one of them"}},
		{"no token file", all, map[string]string{"SVC_ADMIN_TOKEN": "", "SVC_ADMIN_TOKEN_FILE": missing}, 2, []string{"SVC_ADMIN_TOKEN_FILE", missing}},
		{"an empty token file", all, map[string]string{"SVC_ADMIN_TOKEN": "", "SVC_ADMIN_TOKEN_FILE": empty}, 2, []string{"SVC_ADMIN_TOKEN_FILE", empty, "empty"}},
		{"a folder", all, map[string]string{"SVC_ADMIN_TOKEN": "", "SVC_ADMIN_TOKEN_FILE": dir}, 2, []string{"SVC_ADMIN_TOKEN_FILE", dir}},
		{"a large token file", all, map[string]string{"SVC_ADMIN_TOKEN": "", "SVC_ADMIN_TOKEN_FILE": large}, 2, []string{"SVC_ADMIN_TOKEN_FILE", large, "1 MiB"}},
		{"no CA file", all, map[string]string{"SVC_ADMIN_CA": missing}, 2, []string{"SVC_ADMIN_CA", missing}},
		{"a CA that is none", all, map[string]string{"SVC_ADMIN_CA": text}, 2, []string{"SVC_ADMIN_CA", text, "PEM"}},
		{"no certificate file", all, map[string]string{"SVC_ADMIN_CERT": missing}, 2, []string{"SVC_ADMIN_CERT", missing}},
		{"no key file", all, map[string]string{"SVC_ADMIN_KEY": missing}, 2, []string{"SVC_ADMIN_KEY", missing}},
		{"a certificate alone", all, map[string]string{"SVC_ADMIN_KEY": ""}, 2, []string{"SVC_ADMIN_CERT and SVC_ADMIN_KEY"}},
		{"a key alone", all, map[string]string{"SVC_ADMIN_CERT": ""}, 2, []string{"SVC_ADMIN_CERT and SVC_ADMIN_KEY"}},
		{"a key of others", all, map[string]string{"SVC_ADMIN_KEY": key}, 2, []string{"SVC_ADMIN_CERT", clientCert, key}},
		{"a token in clear text", nil, map[string]string{"SVC_ADMIN": "192.0.2.1:9", "SVC_ADMIN_TOKEN": adminToken}, 2, []string{"clear text", "https://"}},
		{"a CA without TLS", nil, map[string]string{"SVC_ADMIN": plain, "SVC_ADMIN_CA": cert}, 2, []string{"https://"}},
		{"an address that is none", nil, map[string]string{"SVC_ADMIN": "ftp://x"}, 2, []string{"admin address"}},
		// The socket asks for nothing, so nothing of this is read for it.
		{"the socket", nil, map[string]string{"SVC_STATE_DIR": dir, "SVC_ADMIN_TOKEN_FILE": missing, "SVC_ADMIN_CA": missing}, 1, []string{"no service answers at unix:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			getenv := func(name string) string {
				if value, ok := c.env[name]; ok {
					return value
				}
				return c.base[name]
			}
			var stdout, stderr bytes.Buffer
			code := exitCode(run(t.Context(), []string{"status"}, getenv, strings.NewReader(""), &stdout, &stderr), &stderr)
			got := stdout.String() + stderr.String()
			if code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, got)
			}
			for _, says := range c.says {
				if !strings.Contains(got, says) {
					t.Errorf("it does not say %q: %s", says, got)
				}
			}
			if strings.Contains(got, adminToken) {
				t.Errorf("the token shows: %s", got)
			}
		})
	}

	var help bytes.Buffer
	if err := run(t.Context(), []string{"status", "--help"}, func(string) string { return "" }, strings.NewReader(""), &help, &help); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SVC_ADMIN_TOKEN", "SVC_ADMIN_TOKEN_FILE", "SVC_ADMIN_CA", "SVC_ADMIN_CERT", "SVC_ADMIN_KEY"} {
		if !strings.Contains(help.String(), name) {
			t.Errorf("the help does not mention %s", name)
		}
	}
}
