package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
)

func newTestClient(t *testing.T, address string, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(address, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewClientAddresses(t *testing.T) {
	token, pki := ClientOptions{Token: canary}, ClientOptions{TLS: &tls.Config{}}
	for _, c := range []struct {
		address string
		options ClientOptions
		says    string // empty: it is taken
	}{
		{"unix:/x/admin.sock", token, ""},
		{"unix:/x/admin.sock", pki, ""},
		{"localhost:1", token, ""},
		{"127.0.0.1:1", token, ""},
		{"[::1]:1", token, ""},
		{"http://[::ffff:127.0.0.1]:1", token, ""},
		{"svc.example.com:1", ClientOptions{}, ""},
		{"https://svc.example.com:1", token, ""},
		{"https://svc.example.com/behind/a/proxy/", pki, ""},
		{"svc.example.com:1", token, "clear text"},
		{"http://10.0.0.1:1", token, "clear text"},
		{"http://localhost.example.com", token, "clear text"},
		{"http://127.0.0.1.example.com", token, "clear text"},
		{"127.0.0.1:1", pki, "https://"},
		{"https://user:" + string(canary) + "@localhost", ClientOptions{}, "credentials"},
		{"ftp://localhost", ClientOptions{}, "want unix:PATH"},
		{"https://", ClientOptions{}, "want unix:PATH"},
		{"http://localhost?token=" + string(canary), ClientOptions{}, "want unix:PATH"},
		{"http://\x7f", ClientOptions{}, "want unix:PATH"},
	} {
		_, err := NewClient(c.address, c.options)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.address, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), string(canary))):
			t.Errorf("%s: %v, want %q", c.address, err, c.says)
		}
	}
}

func TestClientFollowsNoRedirect(t *testing.T) {
	var reached []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached = append(reached, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+string(canary) {
				t.Errorf("the service got %q", r.Header.Get("Authorization"))
			}
			http.Redirect(w, r, elsewhere.URL, status)
		}))
		err := newTestClient(t, s.URL, ClientOptions{Token: canary}).Post(t.Context(), "/api/v1/reload", nil, nil, &answer{})
		var p *Problem
		if !errors.As(err, &p) || p.Status != status {
			t.Errorf("%d: %v", status, err)
		}
		s.Close()
	}
	if len(reached) > 0 {
		t.Errorf("redirects were followed with %q", reached)
	}
}

func TestClientRefusesWhatIsNoAnswer(t *testing.T) {
	for name, body := range map[string]string{"html": "<html>", "empty": "", "cut": `{"word":`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		if err := newTestClient(t, strings.TrimPrefix(s.URL, "http://"), ClientOptions{}).Get(t.Context(), "/", &answer{}); err == nil {
			t.Errorf("%s was taken", name)
		}
		s.Close()
	}
}

// TestClientOverTCP: everything that can be asked for, together.
func TestClientOverTCP(t *testing.T) {
	ours, others := testcert.NewAuthority("test CA"), testcert.NewAuthority("test CA")
	server := ours.Issue("server", testcert.Hosts("127.0.0.1", "svc.test"))
	a := &Access{
		Config: &Config{Token: canary}, TLS: serverTLS(server, ours), Names: server.Leaf.DNSNames, VerifyClient: VerifyClientBy(ours.Pool()),
	}
	s := startTCP(t, a)
	config := func(roots *testcert.Authority, certificates ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: roots.Pool(), Certificates: certificates}
	}
	for _, c := range []struct {
		name string
		o    ClientOptions
		says string
	}{
		{"all", ClientOptions{canary, config(ours, ours.Issue("operator"))}, ""},
		{"no token", ClientOptions{"", config(ours, ours.Issue("operator"))}, "valid credentials"},
		{"no certificate", ClientOptions{canary, config(ours)}, "certificate required"},
		{"a certificate of others", ClientOptions{canary, config(ours, others.Issue("operator"))}, "certificate"},
		{"a service of others", ClientOptions{canary, config(others, ours.Issue("operator"))}, "unknown authority"},
	} {
		var a answer
		err := newTestClient(t, "https://"+s.addr, c.o).Get(t.Context(), "/api/v1/status", &a)
		switch {
		case c.says == "" && (err != nil || a.Word != "status"):
			t.Errorf("%s: %v", c.name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), string(canary))):
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	// The service's own word for the status is not believed.
	lying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"status": 200, "detail": "all well"}`)
	}))
	defer lying.Close()
	var p *Problem
	if err := newTestClient(t, lying.URL, ClientOptions{}).Get(context.Background(), "/", &a); !errors.As(err, &p) || p.Status != http.StatusForbidden {
		t.Errorf("%v", err)
	}
}

// canary is the token of all tests; it may show nowhere.
const canary configsrc.Secret = "canary-0123456789-abcdefghijklmnop"
