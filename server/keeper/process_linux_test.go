package keeper_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// A worker has 0 to 4 before Run, and what it starts gets none of ours, and no
// variable.
func TestInheritedDescriptors(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.restart()
	k.alone()
	pid := k.children()[0]
	data, err := os.ReadFile(filepath.Join(k.dir, "fds."+pid))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		var fd int
		var target string
		if _, err := fmt.Sscanf(line, "fd %d %s", &fd, &target); err != nil {
			t.Fatal(err)
		}
		// The runtime of this process opens its own.
		if !strings.HasPrefix(target, "/sys/fs/cgroup/") && !strings.HasPrefix(target, "anon_inode:") {
			got = append(got, strconv.Itoa(fd))
		}
	}
	if text := strings.Join(got, " "); text != "0 1 2 3 4" {
		t.Errorf("a worker inherits %s:\n%s", text, data)
	}
	out, err := k.get("/spawn")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "env SVC_WORKER") || strings.HasPrefix(line, "env NOTIFY") || strings.HasPrefix(line, "env LISTEN_") {
			t.Errorf("what a worker starts has %s", line)
		}
		if strings.Contains(line, "socket:") || strings.Contains(line, "memfd") {
			t.Errorf("what a worker starts has %s", line)
		}
	}
}

// A worker that crashes is replaced, and its sockets stay open.
func TestCrash(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.alone()
	before := k.fds()
	for i := range 3 {
		_, _ = k.get("/die?signal=9")
		// Nobody is refused meanwhile.
		if text, err := k.get("/"); err != nil || !strings.HasPrefix(text, fmt.Sprint("generation ", i+2)) {
			t.Errorf("after a crash: %s, %v", text, err)
		}
	}
	k.sane(before)
}

// The keeper is killed: the workers end, and it can be started again at once.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	path := filepath.Join(k.dir, "a.sock")
	b := behaviour{Listen: []string{k.addr, "unix:" + path}, Mode: 0o600}
	k.start(b)
	for _, phase := range []string{"", "start", "listened", "prepare"} {
		k.alone()
		if phase != "" {
			b.Phase, b.Do = phase, "pause"
			k.behave(b)
			k.signal(unix.SIGUSR2)
			k.noted(k.table().Generations[0].Number+1, "does pause")
		}
		k.signal(unix.SIGKILL)
		<-k.exited
		b.Phase = ""
		k.start(b)
		k.alone()
		k.eventually("those of the one before have ended", func() bool { return len(k.processes()) == 2 })
		_ = os.Remove(filepath.Join(k.dir, "notes.2"))
	}
}

// Processes are killed at random; the service is back each time.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	k := prepare(t)
	k.start(behaviour{})
	k.eventually("it serves", func() bool { return k.answers("tcp4", k.addr) })
	for range 40 {
		if random.IntN(2) == 0 {
			_ = unix.Kill(k.cmd.Process.Pid, unix.SIGUSR2)
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		}
		victims := k.processes()
		victim := victims[random.IntN(len(victims))]
		_ = unix.Kill(victim, unix.SIGKILL)
		if victim == k.cmd.Process.Pid {
			<-k.exited
			k.start(behaviour{})
		}
		k.eventually("it serves again", func() bool { return k.answers("tcp4", k.addr) && k.table().Serving > 0 })
	}
	k.eventually("one keeper and one worker are left", func() bool { return len(k.processes()) == 2 })
	k.sane(nil)
}

// A drain that does not end is ended, and others are not touched; at a stop too,
// which says so.
func TestStuckDrain(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.start(behaviour{Stuck: true, Timeout: 100 * time.Millisecond})
	k.serves(1)
	k.alone()
	k.behave(behaviour{Timeout: 100 * time.Millisecond})
	k.restart()
	k.begun()
	k.alone()
	if !strings.Contains(k.out.String(), "its drain did not end") {
		t.Error("it is not said why it was ended")
	}
	k.sane(nil)
	k.moves(behaviour{Stuck: true, Timeout: 100 * time.Millisecond})
	k.alone()
	if code := k.stop(); code == 0 {
		t.Error("exit code 0 after a drain that was cut off")
	}
}

// A second signal stops at once.
func TestSecondStop(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.start(behaviour{Stuck: true, Timeout: time.Hour})
	k.serves(1)
	k.signal(unix.SIGTERM)
	k.eventually("it stops", func() bool { return k.table().Stopping })
	k.signal(unix.SIGTERM)
	k.stop()
}

// Ten generations hold a long request each; with more than are allowed, the
// oldest has to end.
func TestManyGenerations(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	b := behaviour{Timeout: time.Minute, Maximum: 10}
	k.start(b)
	k.serves(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var conns []net.Conn
	for i := range 11 {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp4", k.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
		k.eventually("it is held", func() bool {
			for _, g := range k.table().Generations {
				if g.Number == i+1 {
					return g.Connections["http"] > 0
				}
			}
			return false
		})
		k.moves(b)
		k.eventually("those before accept no more", func() bool {
			for _, g := range k.table().Generations {
				if g.Number != i+2 && len(g.Holds) > 0 {
					return false
				}
			}
			return true
		})
	}
	table := k.table()
	if len(table.Generations) < 11 {
		t.Errorf("%d generations", len(table.Generations))
	}
	k.noted(1, "drain by")
	if strings.Contains(k.notes(2), "drain by") {
		t.Error("the second oldest was squeezed too")
	}
	for _, c := range conns {
		_ = c.Close()
	}
	k.sane(nil)
}

// The program on disk is replaced, by what does not run and by what does.
func TestReplacedProgram(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	good, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	k.path = filepath.Join(k.dir, "program")
	place := func(data []byte, mode os.FileMode) {
		if err := os.WriteFile(k.path+".new", data, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(k.path+".new", k.path); err != nil {
			t.Fatal(err)
		}
	}
	place(good, 0o700)
	k.start(behaviour{})
	k.alone()
	before := k.fds()
	refused := func(what string) {
		t.Helper()
		if err := keeper.AskRestart(t.Context(), k.dir); err == nil || !strings.Contains(err.Error(), "start "+k.path) {
			t.Errorf("%s: %v", what, err)
		}
		k.serves(1)
	}
	if err := os.Remove(k.path); err != nil {
		t.Fatal(err)
	}
	refused("deleted")
	place(good, 0o600)
	refused("not executable")
	other := append([]byte{}, good...)
	other[18] = 0xb7 // e_machine: another one
	place(other, 0o700)
	refused("of another machine")
	// A crash while there is no program: it is tried again until there is.
	_, _ = k.get("/die?signal=9")
	k.eventually("it is tried", func() bool { return strings.Contains(k.table().Trouble, "start "+k.path) })
	place(good, 0o700)
	k.eventually("another one serves", func() bool { return k.table().Serving > 1 })
	k.sane(before)
}

// The folder that it was started in is gone.
func TestNoWorkingFolder(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	gone := filepath.Join(k.dir, "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	k.wrap(`cd "` + gone + `" && exec "$0" "$@"`)
	k.start(behaviour{})
	k.alone()
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	k.sane(nil)
}

// A service manager that does not read does not hold up anything.
func TestManagerDoesNotRead(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	path := filepath.Join(k.dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	k.env = []string{"NOTIFY_SOCKET=" + path}
	k.start(behaviour{})
	k.alone()
	for range 200 { // net.unix.max_dgram_qlen is smaller
		k.signal(unix.SIGHUP)
		if k.full(path) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !k.full(path) {
		t.Fatal("the manager's queue is not full")
	}
	k.restart()
	k.alone()
}

// full says that a datagram socket takes no more.
func (k *kept) full(path string) bool {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		k.tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	_, err = c.Write([]byte("X=1"))
	return err != nil
}

// One whose Run ends by itself does not wait for what its predecessor could
// still move: it is replaced.
func TestRunEndsWhileAdopting(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.start(behaviour{NoAdopt: true, Stuck: true, Timeout: time.Hour})
	k.serves(1)
	k.alone()
	k.moves(behaviour{Breaks: 2500 * time.Millisecond, Timeout: time.Hour})
	k.behave(behaviour{})
	k.eventually("another one serves", func() bool { return k.table().Serving == 3 })
	pid := k.table().Generations[0].PID
	_ = unix.Kill(pid, unix.SIGKILL) // the stuck one
}

// What is moved arrives.
func TestMoves(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.restart()
	k.noted(2, "adopted connections")
	k.noted(1, "handed over")
}

// A state outlives the generation that has kept it; a long table, and names that
// are too long, harm nobody.
func TestStatesAndTables(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	addrs := func(name string) []string {
		list := []string{k.addr}
		for i := range 180 {
			list = append(list, fmt.Sprintf("unix:%s/%s%03d%s.sock", k.dir, name, i, strings.Repeat("x", 74)))
		}
		return list
	}
	b := behaviour{Listen: addrs("a"), Mode: 0o600, Overlap: 20 * time.Second}
	k.start(b)
	k.serves(1)
	if _, err := k.get("/keep?name=tickets&data=secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.get("/keep?data=x&name=" + strings.Repeat("n", 128)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "c", "d", "e"} {
		b.Listen = addrs(name)
		k.moves(b)
		k.eventually("it has the state", func() bool {
			text, err := k.get("/state?name=tickets")
			return err == nil && text == fmt.Sprintf("secretgeneration %d ", k.table().Serving)
		})
	}
	if text, err := k.get("/table"); err != nil || len(text) < 64<<10 {
		t.Errorf("table of %d bytes: %v", len(text), err)
	}
	if table := k.table(); table.Serving != 5 {
		t.Errorf("generation %d serves", table.Serving)
	}
}
