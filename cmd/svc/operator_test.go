//go:build unix

package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
)

// post posts to the operator's listener on TCP.
func postTCP(t *testing.T, address, path, token string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestOperatorOnTCP: the commands reach the service with its token, the token
// changes in place, and so does what is asked for beside it.
func TestOperatorOnTCP(t *testing.T) {
	t.Parallel()
	const first, second = "canary-first-0123456789", "canary-second-0123456789"
	config := settings{"server.listen": []string{"127.0.0.1:0"}, "admin.listen": []string{"127.0.0.1:0"}, "admin.token": first}
	f := newFolder(t, config.yaml(t))
	r := f.start("--no-keeper")
	listeners := r.current().Listeners
	if len(listeners) != 2 {
		t.Fatalf("listeners %v", listeners)
	}
	address := listeners[1]
	ask := func(variables ...string) result {
		t.Helper()
		f.env = variables
		defer func() { f.env = nil }()
		return f.svc("status", "--admin", address)
	}
	ask("SVC_ADMIN_TOKEN="+first).want(t, 0, "healthy", address)
	ask().want(t, 1, "valid credentials", "SVC_ADMIN_TOKEN")
	f.svc("status").want(t, 0, "healthy") // the socket asks for nothing
	f.svc("doctor", "--admin", address).want(t, 1, "BAD", "one runs at "+address, "401")

	r.applied(r.apply(config.with("admin.token", second)), "admin.token")
	ask("SVC_ADMIN_TOKEN="+first).want(t, 1, "valid credentials")
	f.write("token", second+"\n")
	ask("SVC_ADMIN_TOKEN_FILE=token").want(t, 0, "healthy")
	config = config.with("admin.token", second)

	// Spring's endpoint.
	for _, c := range []struct {
		content string
		code    int
		says    string
	}{
		{config.yaml(t), http.StatusOK, "[]\n"},
		{config.with("public.x", 1).with("server.timeout.request", "7s").yaml(t), http.StatusOK, `["public.x","server.timeout.request"]` + "\n"},
		{config.with("server.timeout.request", "soon").yaml(t), http.StatusUnprocessableEntity, "refused: ./config.yaml:"},
		{config.with("server.h2c", true).yaml(t), http.StatusConflict, "server.h2c"},
		{"", http.StatusServiceUnavailable, "not found"},
	} {
		if c.content == "" {
			if err := os.Remove(f.path("config.yaml")); err != nil {
				t.Fatal(err)
			}
		} else {
			f.edit(c.content)
		}
		code, body := postTCP(t, address, "/actuator/refresh", second)
		// The watcher may have applied it before: then nothing is left to change.
		if quicker := c.code == http.StatusOK && body == "[]\n"; code != c.code || !quicker && !strings.Contains(body, c.says) {
			t.Errorf("refresh answered with %d %s, want %d %s", code, body, c.code, c.says)
		}
	}
	if code, _ := postTCP(t, address, "/actuator/refresh", first); code != http.StatusUnauthorized {
		t.Errorf("refresh with the old token: %d", code)
	}

	// From plaintext to TLS with client certificates, in place.
	cert, key, _ := selfSigned(t, f.dir, "operator-server")
	client, clientKey, _ := selfSigned(t, f.dir, "operator-client")
	config = config.with("admin.tls.cert", "file:"+cert).with("admin.tls.key", "file:"+key).with("admin.tls.client_ca", "file:"+client)
	if e := r.apply(config); e.Outcome != reload.Applied || !slices.Contains(e.Changed, "admin.tls.client_ca") {
		t.Errorf("%+v", e)
	}
	address = "https://" + address
	identity := []string{"SVC_ADMIN_CA=" + cert, "SVC_ADMIN_CERT=" + client, "SVC_ADMIN_KEY=" + clientKey}
	ask(append(identity, "SVC_ADMIN_TOKEN="+second)...).want(t, 0, "healthy")
	ask(identity...).want(t, 1, "valid credentials")
	ask("SVC_ADMIN_CA="+cert, "SVC_ADMIN_TOKEN="+second).want(t, 1, "certificate required")
	// The authority is taken away: its clients are refused.
	r.applied(r.apply(config.with("admin.tls.client_ca", "file:"+cert)), "admin.tls.client_ca")
	ask(append(identity, "SVC_ADMIN_TOKEN="+second)...).want(t, 1)
	expiry := `svc_tls_certificate_expiry_timestamp_seconds{use="admin"}`
	if got := r.metrics(expiry)[expiry]; got < float64(time.Now().Unix()) {
		t.Errorf("%s is %v", expiry, got)
	}
	if log := r.log.String(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Errorf("a token shows: %s", log)
	}
}

// TestOperatorAddresses: a listener that cannot be had fails the start by its own
// name, and one that lets the token be read is warned of.
func TestOperatorAddresses(t *testing.T) {
	var lc net.ListenConfig
	busy, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	taken := busy.Addr().String()
	config := settings{"server.listen": []string{freeAddress(t)}, "admin.listen": []string{taken}, "admin.token": adminToken}
	f := newFolder(t, config.yaml(t))
	f.svc("run").want(t, 1, taken, "admin.listen: listen on")
	f.svc("doctor").want(t, 1, "BAD", "addresses", taken, "admin.listen")

	same := config.with("admin.listen", config["server.listen"])
	f.edit(same.yaml(t))
	f.svc("validate").want(t, 1, "config.yaml:1: admin.listen[0]: server.listen[0] takes this address already")
	f.svc("validate", "--set", "admin.token=").want(t, 1, "needs token or tls.client_ca")

	open := config.with("server.listen", []string{"127.0.0.1:0"}).with("admin.listen", []string{"0.0.0.0:0"})
	f.edit(open.yaml(t))
	r := f.start()
	const warning = "admin.token can be read on its way"
	if !strings.Contains(r.log.String(), warning) {
		t.Errorf("no warning at the start: %s", r.log)
	}
	before := strings.Count(r.log.String(), warning)
	r.applied(r.apply(open.with("admin.token", adminToken+"2")), "admin.token")
	if strings.Count(r.log.String(), warning) != before+1 {
		t.Errorf("no warning at the change: %s", r.log)
	}
}

// TestLastGoodAfterABusyOperatorPort: what the failed start had opened is closed
// before the last good content opens it again.
func TestLastGoodAfterABusyOperatorPort(t *testing.T) {
	config := settings{"server.listen": []string{freeAddress(t)}, "public.x": "last good"}
	f := newFolder(t, config.yaml(t))
	r := f.start()
	r.signal(os.Interrupt)
	if code := r.exited(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, r.log)
	}
	var lc net.ListenConfig
	busy, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	f.edit(config.with("admin.listen", []string{busy.Addr().String()}).with("admin.token", adminToken).yaml(t))
	r = f.start()
	for _, says := range []string{"started from the last good configuration", "admin.listen: listen on"} {
		if !strings.Contains(r.log.String(), says) {
			t.Errorf("the log does not say %q: %s", says, r.log)
		}
	}
	if st := r.current(); len(st.Listeners) != 1 {
		t.Errorf("%+v", st)
	}
	if code, body := r.get("/v1/config"); code != http.StatusOK || !strings.Contains(body, "last good") {
		t.Errorf("%d %s", code, body)
	}
}

// TestAccessLog: a line for each request, whatever the level, while it is asked for.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	config := settings{"server.listen": []string{"127.0.0.1:0"}, "log.level": "error"}
	f := newFolder(t, config.yaml(t))
	r := f.start()
	lines := func(path string) int {
		n := 0
		for line := range strings.Lines(r.log.String()) {
			var entry struct {
				Level, Msg, Path string
				Status           int
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Path == path && entry.Status == http.StatusOK && entry.Level == "INFO" {
				n++
			}
		}
		return n
	}
	r.get("/livez")
	r.until("a line", func() bool { return lines("/livez") == 1 })
	r.applied(r.apply(config.with("log.access", false)), "log.access")
	r.get("/readyz")
	r.applied(r.apply(config.with("log.access", true)), "log.access")
	r.get("/v1/config")
	r.until("a line again", func() bool { return lines("/v1/config") == 1 })
	if lines("/readyz") != 0 {
		t.Errorf("a line without log.access: %s", r.log)
	}
	if strings.Contains(r.log.String(), "config applied") {
		t.Errorf("log.level is not obeyed: %s", r.log)
	}
}
