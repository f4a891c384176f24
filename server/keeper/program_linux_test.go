package keeper_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
)

// behaviour is what a generation does. It is its content where that has a name, or
// else what the file "behaviour" in the test's folder says when it starts.
type behaviour struct {
	Name     string        `json:"name"`
	Listen   []string      `json:"listen"`
	Mode     os.FileMode   `json:"mode"`
	Phase    string        `json:"phase"` // when Do is done
	Do       string        `json:"do"`
	After    time.Duration `json:"after"` // Do is done this long after Began, where Phase is "later"
	Timeout  time.Duration `json:"timeout"`
	Overlap  time.Duration `json:"overlap"`
	Maximum  int           `json:"maximum"`
	Stuck    bool          `json:"stuck"` // a drain does not end
	Deaf     bool          `json:"deaf"`  // Resume does not come back
	NoAdopt  bool          `json:"no_adopt"`
	Breaks   time.Duration `json:"breaks"` // Run ends by itself
	Sleep    time.Duration `json:"sleep"`  // before it listens
	StateLen int           `json:"state_len"`
}

// program is the keeper and its workers.
func program(folder string) int {
	timeout, _ := time.ParseDuration(os.Getenv("SVC_KEEPER_TEST_START"))
	o := keeper.Options{
		StateDir: folder, Version: "test", StartTimeout: timeout,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("process", os.Getpid()),
	}
	if keeper.IsWorker() {
		// Before Run: nothing was opened yet.
		_ = os.WriteFile(filepath.Join(folder, "fds."+strconv.Itoa(os.Getpid())), []byte(describeFDs()), 0o600)
	}
	err := keeper.Run(context.Background(), o, func(ctx context.Context, w *keeper.Worker) error { return work(ctx, w, folder) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		return 1
	}
	return 0
}

type retryable struct{ error }

func (retryable) Retryable() bool { return true }

func work(ctx context.Context, w *keeper.Worker, folder string) error {
	var b behaviour
	content := w.Content()
	if content != nil {
		if err := json.Unmarshal(content, &b); err != nil {
			return err
		}
	}
	if b.Name == "" {
		var err error
		if content, err = os.ReadFile(filepath.Join(folder, "behaviour")); err != nil {
			return err
		}
		if err := json.Unmarshal(content, &b); err != nil {
			return err
		}
	}
	s := &service{behaviour: b, worker: w, folder: folder, drained: make(chan struct{}, 1)}
	if err := s.phase("start"); err != nil {
		return err
	}
	time.Sleep(b.Sleep)
	w.SetContent(content)
	listeners, err := w.Listen(ctx, b.Listen, b.Mode)
	if err != nil {
		return err
	}
	if err := s.phase("listened"); err != nil {
		return err
	}
	return w.Serve(ctx, s, listeners, keeper.Hooks{
		Began: func() {
			if b.Phase == "later" {
				time.AfterFunc(b.After, func() { _ = s.do() })
			}
		},
		HandedOver: func() { s.note("handed over") },
		Resumed:    func(error, []netListener) { s.note("resumed") },
		Reload:     func(context.Context) { s.note("reload") },
	})
}

// note adds a line to what this generation has seen.
func (s *service) note(text string) {
	f, err := os.OpenFile(filepath.Join(s.folder, "notes."+strconv.Itoa(s.worker.Generation())), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = fmt.Fprintln(f, text)
		_ = f.Close()
	}
}

func (s *service) phase(name string) error {
	if s.behaviour.Phase != name {
		return nil
	}
	return s.do()
}

// do misbehaves.
func (s *service) do() error {
	s.note("does " + s.behaviour.Do)
	switch s.behaviour.Do {
	case "exit 0":
		os.Exit(0)
	case "exit 1":
		os.Exit(1)
	case "panic":
		go panic("test has it panic")
		select {}
	case "segv":
		_ = unix.Kill(os.Getpid(), unix.SIGSEGV)
		select {}
	case "kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "stop":
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		time.Sleep(50 * time.Millisecond) // until it has reached all threads
	case "hang":
		select {}
	case "pause", "pause and fail":
		time.Sleep(1500 * time.Millisecond)
		if s.behaviour.Do == "pause and fail" {
			return errors.New("it was told to fail")
		}
	case "error":
		return errors.New("the content is refused")
	case "retryable":
		return retryable{errors.New("the disk is full")}
	case "garbage":
		_, _ = unix.Write(pair(), []byte("{not a message"))
	case "empty":
		_, _ = unix.Write(pair(), []byte("{}"))
	case "leave":
		_ = unix.Shutdown(pair(), unix.SHUT_RDWR)
		select {}
	case "fork":
		// A child that outlives it and has its end of the pair.
		dup, _ := unix.FcntlInt(uintptr(pair()), unix.F_DUPFD_CLOEXEC, 3)
		c := exec.Command("sleep", "20") //nolint:noctx // it is to outlive this process
		c.ExtraFiles = []*os.File{os.NewFile(uintptr(dup), "pair")}
		_ = c.Start()
		s.note(fmt.Sprint("child ", c.Process.Pid))
		os.Exit(3)
	case "flood":
		// Somebody asks in its name, and it takes no answer.
		dup, _ := unix.FcntlInt(uintptr(pair()), unix.F_DUPFD_CLOEXEC, 3)
		c := exec.Command("sh", "-c", `i=0; while [ $i -lt 5000 ]; do printf '{"kind":"status","id":999}' >&3 || sleep 0.01; i=$((i+1)); done`) //nolint:noctx // the test ends it
		c.ExtraFiles = []*os.File{os.NewFile(uintptr(dup), "pair")}
		_ = c.Start()
		s.note(fmt.Sprint("child ", c.Process.Pid))
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		select {}
	}
	return nil
}

// pair is this worker's end of the pair with its keeper.
func pair() int {
	for fd := 3; fd < 256; fd++ {
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_SEQPACKET {
			return fd
		}
	}
	return -1
}

// describeFDs lists what this process has open.
func describeFDs() string {
	var b strings.Builder
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			continue
		}
		target, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		fmt.Fprintln(&b, "fd", fd, target)
	}
	return b.String()
}

// ServeHTTP is what tests ask of a generation.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/restart": // with a content, that is taken back after a time
		content, _ := io.ReadAll(r.Body)
		ctx := context.WithoutCancel(r.Context())
		if after, err := time.ParseDuration(r.FormValue("cancel")); err == nil {
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, after)
			defer cancel()
		}
		answer(w, s.worker.Restart(ctx, content))
	case "/restartnow":
		answer(w, s.worker.RestartNow(context.WithoutCancel(r.Context()), "a test"))
	case "/table":
		t, err := s.worker.Table(r.Context())
		if err != nil {
			answer(w, err)
			return
		}
		_ = json.NewEncoder(w).Encode(t)
	case "/content":
		s.worker.SetContent([]byte(r.FormValue("content")))
	case "/keep":
		s.worker.Keep(r.FormValue("name"), []byte(r.FormValue("data")))
	case "/state":
		_, _ = w.Write(s.worker.State(r.FormValue("name")))
	case "/settled":
		select {
		case <-s.worker.Settled():
			_, _ = io.WriteString(w, "yes")
		default:
			_, _ = io.WriteString(w, "no")
		}
	case "/sleep":
		d, _ := time.ParseDuration(r.FormValue("for"))
		time.Sleep(d)
	case "/spawn":
		c := exec.CommandContext(r.Context(), os.Args[0])
		c.Env = append(os.Environ(), "SVC_KEEPER_TEST_FDS=1")
		out, err := c.CombinedOutput()
		if err != nil {
			answer(w, err)
		}
		_, _ = w.Write(out)
	case "/die":
		sig, _ := strconv.Atoi(r.FormValue("signal"))
		_ = unix.Kill(os.Getpid(), syscall.Signal(sig))
	}
	_, _ = fmt.Fprintf(w, "generation %d %s", s.worker.Generation(), s.behaviour.Name)
}

func answer(w http.ResponseWriter, err error) {
	if err == nil {
		return
	}
	kind, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	w.WriteHeader(http.StatusConflict)
	_, _ = fmt.Fprintf(w, "%v (retryable: %v) ", err, ok && kind.Retryable())
}
