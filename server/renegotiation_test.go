package server

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A client of TLS 1.2 that asks for a new handshake on an open connection, which
// costs a server more than it costs the client, gets none.
func TestRenegotiation(t *testing.T) {
	h := &counted{}
	s := startTLS(t, Options{Handler: h}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", s.addr, "-tls1_2", "-servername", "svc.test")
	stdin, err := cmd.StdinPipe() // open, as s_client ends with it
	if err != nil {
		t.Fatal(err)
	}
	out := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("openssl: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "handshake", func() bool { return strings.Contains(out.String(), "Verify return code") })
	if text := out.String(); !strings.Contains(text, "TLSv1.2") {
		t.Errorf("it is not TLS 1.2: %s", text)
	}
	for _, line := range []string{"R\n", "GET / HTTP/1.1\r\n", "Host: x\r\n", "\r\n"} {
		if _, err := stdin.Write([]byte(line)); err != nil {
			break // it has gone
		}
		// s_client takes an R for a command where a read begins with it.
		eventually(t, "command", func() bool { return strings.Contains(out.String(), "RENEGOTIATING") })
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("openssl is content")
		}
	case <-ctx.Done():
		t.Error("openssl still waits")
	}
	if text := out.String(); strings.Contains(text, "HTTP/1.1 200") || h.calls.Load() != 0 {
		t.Errorf("the request was served: %s", text)
	}
	eventually(t, "no connection", func() bool { return total(s.running) == 0 })
	s.mustDialTLS(t, s.clientTLS(nil)) // others are served
}
