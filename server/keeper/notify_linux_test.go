package keeper

import (
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A text of a worker's must not become an order to the service manager.
func TestStatusIsOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	m := newManager(slog.New(slog.DiscardHandler))
	// What RestartNow was given, or what a worker said when it failed.
	m.reloading("restarting: upgrade\nMAINPID=1\nSTOPPING=1")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(buf[:n]), "\nMAINPID=") {
		t.Errorf("the service manager is told %q", buf[:n])
	}
}
