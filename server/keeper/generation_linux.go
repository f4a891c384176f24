package keeper

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// generation is one worker process as the keeper sees it.
type generation struct {
	number  int
	pid     int
	control *channel
	crash   int // memory file

	state     State
	since     time.Time
	committed bool // told to accept
	resuming  bool // told to accept again, after its successor has died
	version   string
	reason    string
	// plain are the sockets it listens on, and whether without TLS.
	plain   map[string]bool
	limits  Limits
	held    map[string]int
	content int // memory file with what is in force in it; -1: it has not said

	began time.Time // of the drain
	by    time.Time // when the drain must have ended
	// deadline is when something must have happened; zero: nothing must. What
	// is due then is escalate's to say.
	deadline time.Time
	steps    int // of the escalation

	failure *Error // what it said itself
	killed  string // why the keeper killed it; "": it did not
	gone    bool   // the process has ended
	status  syscall.WaitStatus
	deaf    bool // its end of the pair is closed
}

func (g *generation) enter(s State) {
	g.state, g.since, g.deadline, g.steps, g.resuming = s, time.Now(), time.Time{}, 0, false
}

// kill ends it at once. The reason is told to whoever waits for it.
func (g *generation) kill(why string) {
	if g.killed == "" {
		g.killed = why
	}
	g.signal(unix.SIGKILL)
	g.deadline = time.Time{}
}

// signal is for the escalation alone. The process is not reaped yet, so that
// its id is not another's.
func (g *generation) signal(s syscall.Signal) {
	if !g.gone && g.pid > 0 {
		_ = unix.Kill(g.pid, s) // it may just have ended
	}
}

// end says why it ended, after it has.
func (g *generation) end() *Error {
	switch {
	case g.failure != nil:
		return g.failure
	case g.killed != "":
		return &Error{Text: g.killed, Environment: true}
	}
	text := fmt.Sprintf("process %d %s", g.pid, describe(g.status))
	if crash := readCrash(g.crash); crash != "" {
		text += ": " + crash
	}
	// Killed from outside is the environment's doing: the memory ran out, or
	// somebody did it. A crash is taken for the content's.
	outside := []syscall.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGHUP}
	return &Error{Text: text, Environment: g.status.Signaled() && slices.Contains(outside, g.status.Signal())}
}

func (g *generation) close() {
	g.control.close()
	closeFiles([]int{g.crash})
	if g.content >= 0 {
		closeFiles([]int{g.content})
	}
}
