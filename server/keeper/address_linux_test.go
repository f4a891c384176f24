package keeper_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// moves has it listen on other addresses.
func (k *kept) moves(b behaviour) {
	k.tb.Helper()
	k.behave(b)
	k.restart()
}

func (k *kept) answers(network, addr string) bool {
	_, err := k.getFrom(network, addr, "/", nil)
	return err == nil
}

// A busy address fails the restart, and nothing else; when it is free, it does.
func TestBusyPort(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	busy, err := listen(t, "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := behaviour{Name: "b", Listen: []string{k.addr, busy.Addr().String()}}
	if err := k.ask(k.content(b), 0); err == nil || !strings.Contains(err.Error(), "retryable: true") {
		t.Errorf("busy: %v", err)
	}
	k.serves(1)
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.ask(k.content(b), 0); err != nil {
		t.Errorf("free: %v", err)
	}
	k.eventually("it serves there", func() bool { return k.answers("tcp4", busy.Addr().String()) })
	if err := k.ask(k.content(behaviour{Name: "c", Overlap: time.Millisecond}), 0); err != nil {
		t.Errorf("back: %v", err)
	}
	k.eventually("it is closed again", func() bool { return !k.answers("tcp4", busy.Addr().String()) })
	k.sane(before)
}

// Both answer while they overlap, then the old one is closed; and back.
func TestPortMoves(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	a, b := k.addr, freeAddr(t)
	k.moves(behaviour{Listen: []string{b}, Overlap: 3 * time.Second})
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !k.answers("tcp4", a) || !k.answers("tcp4", b) {
			t.Fatal("one of the two does not answer")
		}
	}
	k.eventually("the old address is closed", func() bool { return !k.answers("tcp4", a) })
	k.moves(behaviour{Listen: []string{a}, Overlap: time.Millisecond})
	k.eventually("the new one is closed", func() bool { return !k.answers("tcp4", b) })
	// Back before the end of the overlap: it stays.
	k.moves(behaviour{Listen: []string{b}, Overlap: 3 * time.Second})
	k.moves(behaviour{Listen: []string{a}, Overlap: 3 * time.Second})
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !k.answers("tcp4", a) {
			t.Fatal("the address that it came back to does not answer")
		}
	}
	k.sane(before)
}

// A generation that starts when an address is given up, and wants it, gets it as
// it was: somebody is let in.
func TestWantedWhileRetired(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	a, b := k.addr, freeAddr(t)
	for _, fails := range []bool{false, true} {
		k.moves(behaviour{Listen: []string{b}, Overlap: 2 * time.Second})
		k.addr = b
		// It has its sockets before the end of the overlap, and accepts after it.
		x := behaviour{Listen: []string{a}, Phase: "listened", Do: "pause"}
		if fails {
			x.Do = "pause and fail"
		}
		k.behave(x)
		time.Sleep(1500 * time.Millisecond)
		err := keeper.AskRestart(t.Context(), k.dir)
		if fails != (err != nil) {
			t.Fatal(err)
		}
		if fails {
			k.eventually("it is closed", func() bool { return !k.answers("tcp4", a) })
			break
		}
		busy := k.cpu()
		k.eventually("it is open", func() bool { return k.answers("tcp4", a) })
		for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if !k.answers("tcp4", a) {
				t.Fatal("it does not answer")
			}
		}
		if used := k.cpu() - busy; used > time.Second {
			t.Errorf("the keeper has used %v of a processor", used)
		}
		k.addr = a
	}
	k.addr = b
	k.sane(before)
}

// Widening and narrowing on one port, under load.
func TestOverlappingAddresses(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	_, port, _ := net.SplitHostPort(k.addr)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := k.get("/"); err != nil {
					t.Errorf("request: %v", err)
					return
				}
			}
		})
	}
	for _, addrs := range [][]string{{"0.0.0.0:" + port}, {"127.0.0.1:" + port}, {":" + port}, {"127.0.0.1:" + port, "0.0.0.0:" + port}} {
		k.moves(behaviour{Listen: addrs, Overlap: time.Millisecond})
		time.Sleep(2500 * time.Millisecond) // over probation, and what was given up is closed
	}
	close(stop)
	load.Wait()
	k.moves(behaviour{Overlap: time.Millisecond})
	k.eventually("it is as before", func() bool { return k.fds()["socket"] == before["socket"] })
	k.sane(before)
}

// Port 0 stays the port that it has got, also named, and two of them are two.
func TestAnyPort(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.start(behaviour{Listen: []string{"127.0.0.1:0"}})
	k.eventually("it listens", func() bool { return k.table().Serving == 1 })
	first := k.table().Listeners[0]
	k.moves(behaviour{Listen: []string{"127.0.0.1:0"}})
	if got := k.table().Listeners; len(got) != 1 || got[0] != first {
		t.Errorf("after a restart: %v, not %s", got, first)
	}
	for _, both := range [][]string{{first, "127.0.0.1:0"}, {"127.0.0.1:0", first}} {
		k.moves(behaviour{Listen: both})
		got := k.table().Listeners
		if len(got) != 2 || got[0] == got[1] {
			t.Fatalf("%v is %v", both, got)
		}
		k.addr = first
		k.eventually("both answer", func() bool { return k.answers("tcp4", got[0]) && k.answers("tcp4", got[1]) })
	}
}

// A unix socket: it is there, has the mode that was asked for last, comes back,
// and what somebody else has put there is left alone.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	path := filepath.Join(k.dir, "a.sock")
	b := behaviour{Listen: []string{k.addr, "unix:" + path}, Mode: 0o660, Overlap: time.Millisecond}
	k.start(b)
	k.alone()
	before := k.fds()
	mode := func() os.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			c, err := dial(t, "unix", path)
			if err != nil {
				t.Errorf("connect: %v", err)
				return
			}
			_ = c.Close()
		}
	})
	b.Mode = 0o600
	k.moves(b)
	if got := mode(); got != 0o600 {
		t.Errorf("mode is %v", got)
	}
	b.Mode, b.Phase, b.Do = 0o666, "later", "kill"
	k.moves(b)
	b.Mode, b.Phase = 0o600, ""
	k.behave(b)
	k.eventually("generation 2 serves again", func() bool { return k.table().Serving == 2 })
	if got := mode(); got != 0o600 {
		t.Errorf("mode of one that has died: %v", got)
	}
	close(stop)
	load.Wait()

	// Given up, and back: each time it is another socket.
	for range 2 {
		k.moves(behaviour{Overlap: time.Millisecond})
		k.eventually("the path is gone", func() bool { _, err := os.Lstat(path); return err != nil })
		k.moves(b)
		k.eventually("it answers", func() bool { return k.answers("unix", path) })
	}
	k.alone()
	k.eventually("no socket is left over", func() bool { return k.fds()["socket"] == before["socket"] })

	// Removed by somebody: the next restart puts it back.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	k.restart()
	k.eventually("it answers again", func() bool { return k.answers("unix", path) })

	// Replaced by somebody: that is theirs.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := listen(t, "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.AskRestart(t.Context(), k.dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("somebody else listens there: %v", err)
	}
	if code := k.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if c, err := dial(t, "unix", path); err != nil {
		t.Errorf("somebody else's socket is gone: %v", err)
	} else {
		_ = c.Close()
	}
	_ = other.Close()
}

// A socket of a service manager is used and left as it is.
func TestInheritedSocket(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // no service manager has that
	ln, err := lc.Listen(t.Context(), "tcp4", k.addr)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	k.files = []*os.File{f}
	// LISTEN_PID is that of the process itself, which only that knows.
	k.wrap(`exec env LISTEN_PID=$$ LISTEN_FDS=1 "$0" "$@"`)
	k.start(behaviour{Overlap: time.Millisecond})
	k.serves(1)
	k.alone()
	before := k.fds()
	other := freeAddr(t)
	k.moves(behaviour{Listen: []string{other}, Overlap: time.Millisecond})
	k.eventually("it is no longer listened on", func() bool { return len(k.table().Generations) == 1 && len(k.table().Generations[0].Holds) == 1 })
	queued, err := dial(t, "tcp4", k.addr)
	if err != nil {
		t.Errorf("the manager's socket does not let anybody in: %v", err)
	} else {
		_ = queued.Close()
	}
	k.moves(behaviour{Overlap: time.Millisecond})
	k.eventually("the other one is closed", func() bool { return !k.answers("tcp4", other) })
	k.sane(before)
	if code := k.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if c, err := dial(t, "tcp4", k.addr); err != nil {
		t.Errorf("the manager's socket is closed: %v", err)
	} else {
		_ = c.Close()
	}
	_ = ln.Close()
}

// Every descriptor of a listening socket stays non-blocking, in each process.
func TestSocketsDoNotBlock(t *testing.T) {
	t.Parallel()
	k := keep(t)
	for range 3 {
		k.restart()
		k.alone()
		for _, pid := range append(k.children(), strconv.Itoa(k.cmd.Process.Pid)) {
			infos, _ := filepath.Glob("/proc/" + pid + "/fdinfo/*")
			seen := 0
			for _, path := range infos {
				target, _ := os.Readlink(strings.Replace(path, "fdinfo", "fd", 1))
				if !strings.HasPrefix(target, "socket:") {
					continue
				}
				data, err := os.ReadFile(path)
				if err != nil {
					continue
				}
				var flags int
				_, rest, _ := strings.Cut(string(data), "flags:")
				_, _ = fmt.Sscanf(strings.TrimSpace(rest), "%o", &flags)
				if flags&unix.O_NONBLOCK == 0 {
					t.Errorf("descriptor %s (%s) blocks", path, target)
				}
				seen++
			}
			if seen == 0 {
				t.Errorf("process %s has no socket", pid)
			}
		}
	}
}
