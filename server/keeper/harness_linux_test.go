package keeper_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// long is more than anything here takes on any machine.
const long = 20 * time.Second

// kept is a running program, with its keeper.
type kept struct {
	tb     testing.TB
	dir    string
	path   string
	addr   string
	cmd    *exec.Cmd
	out    output
	exited chan struct{}
	code   int
	env    []string
	files  []*os.File // from descriptor 3 on
	before []string   // of the command
	as     *syscall.Credential
}

// output is what the processes write.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// prepare makes a folder for a program that serves on addr.
func prepare(tb testing.TB) *kept {
	tb.Helper()
	dir, err := os.MkdirTemp("", "keeper") //nolint:usetesting // tb.TempDir is too long for a unix socket
	if err != nil {
		tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	k := &kept{tb: tb, dir: dir, path: self, addr: freeAddr(tb)}
	tb.Cleanup(func() {
		k.noneLeft()
		if tb.Failed() {
			tb.Logf("output:\n%s", k.out.String())
		}
		_ = os.RemoveAll(dir)
	})
	return k
}

// keep starts a program that behaves.
func keep(tb testing.TB) *kept {
	tb.Helper()
	k := prepare(tb)
	k.start(behaviour{})
	k.serves(1)
	return k
}

func listen(tb testing.TB, network, addr string) (net.Listener, error) {
	tb.Helper()
	var lc net.ListenConfig
	return lc.Listen(tb.Context(), network, addr)
}

func dial(tb testing.TB, network, addr string) (net.Conn, error) {
	tb.Helper()
	var d net.Dialer
	return d.DialContext(tb.Context(), network, addr)
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := listen(tb, "tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// behave writes what generations do that get no content.
func (k *kept) behave(b behaviour) {
	k.tb.Helper()
	data := k.content(b)
	file := filepath.Join(k.dir, "behaviour")
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		k.tb.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		k.tb.Fatal(err)
	}
}

func (k *kept) content(b behaviour) []byte {
	k.tb.Helper()
	if b.Listen == nil {
		b.Listen = []string{k.addr}
	}
	data, err := json.Marshal(b)
	if err != nil {
		k.tb.Fatal(err)
	}
	return data
}

// start starts the keeper.
func (k *kept) start(b behaviour) {
	k.tb.Helper()
	k.behave(b)
	args := append(slices.Clone(k.before), k.path, "-test.run=^$")
	k.cmd = exec.Command(args[0], args[1:]...) //nolint:noctx // it outlives the test's context: end stops it
	k.cmd.Env = append(os.Environ(), folderMark+"="+k.dir, "SVC_KEEPER_TEST_START=3s", "GORACE=atexit_sleep_ms=0", "GOTRACEBACK=single")
	k.cmd.Env = append(k.cmd.Env, k.env...)
	k.cmd.Stdout, k.cmd.Stderr = &k.out, &k.out
	k.cmd.ExtraFiles = k.files
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: k.as}
	k.cmd.WaitDelay = time.Second // a child of a worker may have the pipe
	if err := k.cmd.Start(); err != nil {
		k.tb.Fatal(err)
	}
	exited := make(chan struct{})
	k.exited = exited
	cmd := k.cmd
	go func() {
		_ = cmd.Wait()
		k.code = cmd.ProcessState.ExitCode()
		close(exited)
	}()
	k.tb.Cleanup(func() { k.end(exited, cmd.Process) })
}

// wrap has a shell start the program.
func (k *kept) wrap(script string) { k.before = []string{"sh", "-c", script} }

// end stops the program, if it was not yet.
func (k *kept) end(exited chan struct{}, p *os.Process) {
	select {
	case <-exited:
		return
	default:
	}
	_ = p.Signal(unix.SIGTERM)
	select {
	case <-exited:
	case <-time.After(long):
		k.tb.Error("the keeper does not stop")
		_ = p.Signal(unix.SIGKILL)
		<-exited
	}
}

// stop stops it and returns its exit code.
func (k *kept) stop() int {
	k.tb.Helper()
	k.end(k.exited, k.cmd.Process)
	return k.code
}

func (k *kept) signal(s os.Signal) {
	k.tb.Helper()
	if err := k.cmd.Process.Signal(s); err != nil {
		k.tb.Fatal(err)
	}
}

// noneLeft checks that no process and no socket is left, and ends what is.
func (k *kept) noneLeft() {
	k.tb.Helper()
	left := k.processes()
	for end := time.Now().Add(long / 3); len(left) > 0 && time.Now().Before(end); left = k.processes() {
		time.Sleep(10 * time.Millisecond)
	}
	for _, pid := range left {
		k.tb.Errorf("process %d is left", pid)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	sockets, err := filepath.Glob(filepath.Join(k.dir, "*.sock"))
	if err != nil || len(sockets) > 0 {
		k.tb.Errorf("sockets are left: %v, %v", sockets, err)
	}
}

// processes are those of this program, also zombies of the keeper.
func (k *kept) processes() []int {
	var found []int
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(folderMark+"="+k.dir+"\x00")) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			found = append(found, pid)
		}
	}
	return found
}

// children are the child processes of the keeper, zombies included.
func (k *kept) children() []string {
	k.tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", k.cmd.Process.Pid))
	if err != nil {
		k.tb.Fatal(err)
	}
	children := strings.Fields(string(data))
	// Those that other threads have started.
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", k.cmd.Process.Pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		children = append(children, strings.Fields(string(data))...)
	}
	slices.Sort(children)
	return slices.Compact(children)
}

// fds counts what the keeper has open, by what it is.
func (k *kept) fds() map[string]int {
	k.tb.Helper()
	time.Sleep(100 * time.Millisecond) // connections to keeper.sock come and go
	dir := fmt.Sprintf("/proc/%d/fd", k.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		k.tb.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(target, ":[")
		count[name]++
	}
	return count
}

// get asks the service.
func (k *kept) get(path string) (string, error) { return k.getFrom("tcp4", k.addr, path, nil) }

func (k *kept) getFrom(network, addr, path string, body []byte) (string, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), long) // also in cleanups
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://service"+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", data)
	}
	return string(data), err
}

// eventually waits until something holds.
func (k *kept) eventually(what string, holds func() bool) {
	k.tb.Helper()
	for end := time.Now().Add(long); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			k.tb.Fatalf("never: %s; table: %+v; descriptors: %v", what, k.table(), k.fds())
		}
	}
}

// serves waits until a generation answers.
func (k *kept) serves(generation int) {
	k.tb.Helper()
	k.eventually(fmt.Sprint("generation ", generation, " answers"), func() bool {
		text, err := k.get("/")
		return err == nil && strings.HasPrefix(text, fmt.Sprintf("generation %d ", generation))
	})
}

func (k *kept) table() keeper.Table {
	k.tb.Helper()
	table, err := keeper.Ask(context.Background(), k.dir)
	if err != nil {
		return keeper.Table{Trouble: err.Error()}
	}
	return table
}

// restart asks for one, and fails the test when that fails.
func (k *kept) restart() {
	k.tb.Helper()
	if err := keeper.AskRestart(k.tb.Context(), k.dir); err != nil {
		k.tb.Fatal(err)
	}
}

// alone waits until one generation is left, which serves.
func (k *kept) alone() {
	k.tb.Helper()
	k.eventually("one generation serves", func() bool {
		t := k.table()
		return len(t.Generations) == 1 && t.Generations[0].State == keeper.StateServing && len(k.children()) == 1
	})
}

// sane checks that everything is as after a start: one generation, no descriptor
// more than there were then, and a restart works.
func (k *kept) sane(fds map[string]int) {
	k.tb.Helper()
	k.alone()
	k.behave(behaviour{})
	k.restart()
	k.alone()
	if fds != nil {
		k.eventually("the keeper has the descriptors that it had", func() bool { return maps.Equal(fds, k.fds()) })
	}
	if _, err := k.get("/"); err != nil {
		k.tb.Error(err)
	}
}

// noted waits for a line in what a generation has seen.
func (k *kept) noted(generation int, text string) {
	k.tb.Helper()
	k.eventually(fmt.Sprintf("generation %d notes %q", generation, text), func() bool { return strings.Contains(k.notes(generation), text) })
}

func (k *kept) notes(generation int) string {
	data, _ := os.ReadFile(filepath.Join(k.dir, "notes."+strconv.Itoa(generation)))
	return string(data)
}

// cpu is what the keeper has used of the processors.
func (k *kept) cpu() time.Duration {
	k.tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.cmd.Process.Pid))
	if err != nil {
		k.tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}
