//go:build linux

package main

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// TestSessionsResumeInLaterGenerations: a client that made its TLS session with
// one generation resumes it with those that follow.
func TestSessionsResumeInLaterGenerations(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "")
	cert, key, _ := selfSigned(t, f.dir, "server")
	config := settings{
		"server.listen": []string{"127.0.0.1:0"}, "server.tls.mode": "tls",
		"server.tls.cert": "file:" + cert, "server.tls.key": "file:" + key,
	}
	f.write("config.yaml", config.yaml(t))
	r := f.start()
	address := r.status().Listeners[0]
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4), NextProtos: []string{"http/1.1"}}
	connect := func() bool {
		t.Helper()
		d := net.Dialer{Timeout: 10 * time.Second}
		c, err := tls.DialWithDialer(&d, "tcp", address, client) //nolint:noctx // it has a time of its own
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		// The ticket comes with the answer.
		if _, err := c.Write([]byte("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().DidResume
	}
	connect()
	if !connect() {
		t.Fatal("a session is not resumed in the same generation")
	}
	// The client keeps the ticket of the first: each resumption would give it a
	// new one.
	first := client.ClientSessionCache
	for generation := 2; generation <= 6; generation++ {
		f.svc("restart").want(t, 0, "restarted")
		client.ClientSessionCache = only{first}
		if !connect() {
			t.Errorf("a session of the first generation is not resumed in generation %d", generation)
		}
	}
}

// only is a cache that takes nothing more.
type only struct{ tls.ClientSessionCache }

func (only) Put(string, *tls.ClientSessionState) {}
