//go:build unix

package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
)

// tlsClient is one TLS connection to the service, over which one request is sent
// after the other.
type tlsClient struct {
	t    *testing.T
	conn *tls.Conn
	in   *bufio.Reader
}

// dialTLS looks at the certificate only by what it is for; name is that.
func dialTLS(t *testing.T, address string) (c *tlsClient, name string) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}}
	nc, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn := nc.(*tls.Conn)
	t.Cleanup(func() { _ = conn.Close() })
	return &tlsClient{t, conn, bufio.NewReader(conn)}, conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// served is the name in the certificate that a new connection gets.
func served(t *testing.T, address string) string {
	t.Helper()
	c, name := dialTLS(t, address)
	_ = c.conn.Close()
	return name
}

func (c *tlsClient) get(path string) int {
	c.t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode
}

func tlsAddress(r *running) string { return strings.TrimPrefix(r.url, "http://") }

// replace puts other content in the place of a file, as a tool that renews
// certificates does.
func (f *folder) replace(name, text string) {
	f.t.Helper()
	f.write(name+".new", text)
	if err := os.Rename(f.path(name+".new"), f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

// TestCertificateUnderAnOpenConnection: the open one goes on, a new one sees the
// new certificate, whether it came in the config or in the files that it names.
func TestCertificateUnderAnOpenConnection(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "")
	firstCert, firstKey := validPair("first")
	config := settings{
		"server.listen": []string{"127.0.0.1:0"}, "server.tls.mode": "tls",
		"server.tls.cert": firstCert, "server.tls.key": firstKey,
	}
	f.write("config.yaml", config.yaml(t))
	r := f.start()
	open, name := dialTLS(t, tlsAddress(r))
	goesOn := func() {
		t.Helper()
		if code := open.get("/v1/config"); code != http.StatusOK {
			t.Errorf("the open connection answers with %d", code)
		}
	}
	goesOn()
	if name != "first" {
		t.Fatalf("served %q", name)
	}
	expiry := `svc_tls_certificate_expiry_timestamp_seconds{use="server"}`
	if got := r.metrics(expiry)[expiry]; time.Until(time.Unix(int64(got), 0)).Round(time.Hour) != 24*time.Hour {
		t.Errorf("the metric says %v", time.Unix(int64(got), 0))
	}

	secondCert, secondKey := validPair("second")
	config = config.with("server.tls.cert", secondCert).with("server.tls.key", secondKey)
	r.applied(r.apply(config), "server.tls.cert", "server.tls.key")
	goesOn()
	if name := served(t, tlsAddress(r)); name != "second" {
		t.Errorf("served %q after a change in the config", name)
	}

	thirdCert, thirdKey := validPair("third")
	f.write("server.pem", thirdCert)
	f.write("server.key", thirdKey)
	config = config.with("server.tls.cert", "file:server.pem").with("server.tls.key", "file:server.key")
	r.applied(r.apply(config), "server.tls.cert", "server.tls.key")
	goesOn()
	if name := served(t, tlsAddress(r)); name != "third" {
		t.Errorf("served %q from files", name)
	}

	// The files change and the config does not. In between they do not match.
	fourthCert, fourthKey := validPair("fourth")
	f.replace("server.pem", fourthCert)
	if name := served(t, tlsAddress(r)); name != "third" {
		t.Errorf("served %q with half of the files replaced", name)
	}
	f.replace("server.key", fourthKey)
	r.until("the new files are served", func() bool { return served(t, tlsAddress(r)) == "fourth" })
	goesOn()

	// Gone: what was in force stays, in changes of other settings too.
	if err := os.Remove(f.path("server.key")); err != nil {
		t.Fatal(err)
	}
	r.applied(r.apply(config.with("public.x", 1)), "public.x")
	goesOn()
	if name := served(t, tlsAddress(r)); name != "fourth" {
		t.Errorf("served %q after the key was gone", name)
	}
	if strings.Contains(r.log.String(), "PRIVATE KEY") || strings.Contains(f.svc("config").stdout, firstKey[30:60]) {
		t.Error("a key shows")
	}
}

// TestBadCertificates: each is refused by its key, before it is in force and
// without taking away what is.
func TestBadCertificates(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "")
	cert, key := validPair("good")
	_, otherKey := validPair("other")
	now := time.Now()
	expired, expiredKey := pemPair("expired", now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	early, earlyKey := pemPair("early", now.Add(24*time.Hour), now.Add(48*time.Hour))
	f.write("empty.pem", "")
	f.write("expired.pem", expired)
	config := settings{
		"server.listen": []string{"127.0.0.1:0"}, "server.tls.mode": "mtls",
		"server.tls.cert": cert, "server.tls.key": key, "server.tls.client_ca": cert,
		"admin.listen": []string{"127.0.0.1:0"}, "admin.token": adminToken, "admin.tls.cert": cert, "admin.tls.key": key,
	}
	f.write("config.yaml", config.yaml(t))
	r := f.start()
	revision := r.current().Revision
	// The certificates of both listeners; clients of the service have none, and
	// see its certificate all the same.
	addresses := r.current().Listeners

	missing := f.path("missing.pem")
	for name, c := range map[string]struct {
		set     settings
		outcome reload.Outcome
		says    []string
	}{
		"another key":         {settings{"server.tls.key": otherKey}, reload.Refused, []string{"server.tls.key", "does not belong to the certificate"}},
		"expired":             {settings{"server.tls.cert": expired, "server.tls.key": expiredKey}, reload.Refused, []string{"server.tls.cert", "expired on"}},
		"not yet valid":       {settings{"server.tls.cert": early, "server.tls.key": earlyKey}, reload.Refused, []string{"server.tls.cert", "not valid before"}},
		"expired, in a file":  {settings{"server.tls.cert": "file:expired.pem", "server.tls.key": expiredKey}, reload.Refused, []string{f.path("expired.pem") + ": server.tls.cert", "expired on"}},
		"an empty file":       {settings{"server.tls.cert": "file:empty.pem"}, reload.Refused, []string{"empty.pem: server.tls.cert", "empty"}},
		"no file":             {settings{"server.tls.cert": "file:" + missing}, reload.Failed, []string{"server.tls", "cert", missing}},
		"no PEM":              {settings{"server.tls.cert": "canary-in-a-certificate"}, reload.Refused, []string{"server.tls.cert", "neither a PEM text"}},
		"no key":              {settings{"server.tls.key": nil}, reload.Refused, []string{"server.tls.key", "must be set"}},
		"a password":          {settings{"server.tls.key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"}, reload.Refused, []string{"server.tls.key", "password"}},
		"no authorities":      {settings{"server.tls.client_ca": key}, reload.Refused, []string{"server.tls.client_ca", "private key"}},
		"admin, another key":  {settings{"admin.tls.key": otherKey}, reload.Refused, []string{"admin.tls.key", "does not belong"}},
		"admin, expired":      {settings{"admin.tls.cert": expired, "admin.tls.key": expiredKey}, reload.Refused, []string{"admin.tls.cert", "expired on"}},
		"admin, authorities":  {settings{"admin.tls.client_ca": "file:" + missing}, reload.Failed, []string{"admin.tls", "client_ca", missing}},
		"admin, half of them": {settings{"admin.tls.key": nil}, reload.Refused, []string{"admin.tls.cert", "needs tls.key"}},
	} {
		t.Run(name, func(t *testing.T) {
			bad := config
			for key, value := range c.set {
				bad = bad.with(key, value)
			}
			f.write("bad.yaml", bad.yaml(t))
			f.svc("validate", "bad.yaml").want(t, 1, c.says...)
			f.svc("plan", "bad.yaml").want(t, 1, append(c.says, "would be refused")...)
			if e := r.apply(bad); e.Outcome != c.outcome {
				t.Errorf("%+v", e)
			}
			f.svc("reload").want(t, 1, append(c.says, string(c.outcome))...)
			f.svc("status").want(t, 0, append(c.says, string(c.outcome))...)
			for _, address := range addresses {
				if name := served(t, address); name != "good" {
					t.Errorf("%s: served %q", address, name)
				}
			}
			if now := r.current(); now.Revision != revision || !now.Healthy {
				t.Errorf("%+v", now)
			}
		})
	}
	if e := r.apply(config.with("public.x", 1)); e.Outcome != reload.Applied {
		t.Errorf("a good one after all that: %+v", e)
	}
	seen := r.log.String() + f.svc("history").stdout + f.svc("status").stdout
	for _, secret := range []string{"canary-in-a-certificate", "PRIVATE KEY-----"} {
		if strings.Contains(seen, secret) {
			t.Errorf("%s shows", secret)
		}
	}
}

// TestMissingFileIsTriedAgain: what is the environment's fault needs no edit.
func TestMissingFileIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "")
	cert, key := validPair("first")
	config := settings{"server.listen": []string{"127.0.0.1:0"}, "server.tls.mode": "tls", "server.tls.cert": cert, "server.tls.key": key}
	f.write("config.yaml", config.yaml(t))
	r := f.start()
	cert, key = validPair("late")
	if e := r.apply(config.with("server.tls.cert", "file:late.pem").with("server.tls.key", key)); e.Outcome != reload.Failed {
		t.Fatalf("%+v", e)
	}
	f.write("late.pem", cert)
	r.until("the file that came late is served", func() bool { return served(t, tlsAddress(r)) == "late" })
	if last := r.current().Last; last.Outcome != reload.Applied {
		t.Errorf("%+v", last)
	}
}

// TestOutdatedCertificateAtAStart: it is served, because nothing would be no
// better, and everything says so.
func TestOutdatedCertificateAtAStart(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "")
	now := time.Now()
	cert, key := pemPair("old", now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	config := settings{"server.listen": []string{"127.0.0.1:0"}, "server.tls.mode": "tls", "server.tls.cert": cert, "server.tls.key": key}
	f.write("config.yaml", config.yaml(t))
	f.svc("validate").want(t, 1, "server.tls.cert", "expired on")
	f.svc("doctor").want(t, 1, "BAD", "server.tls.cert", "expired on")
	r := f.start()
	if name := served(t, tlsAddress(r)); name != "old" {
		t.Errorf("served %q", name)
	}
	if log := r.log.String(); !strings.Contains(log, "certificate has expired") || !strings.Contains(log, `"section":"server.tls"`) {
		t.Errorf("no warning: %s", log)
	}
	r.applied(r.apply(config.with("public.x", 1)), "public.x")
	cert, key = validPair("new")
	r.applied(r.apply(config.with("public.x", 1).with("server.tls.cert", cert).with("server.tls.key", key)), "server.tls.cert", "server.tls.key")
	if name := served(t, tlsAddress(r)); name != "new" {
		t.Errorf("served %q", name)
	}
	f.svc("doctor").want(t, 0, "server.tls", "CN=new", "until ", "in 23 hours")
}
