package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// manager is the service manager that started the keeper, if one did and wants
// to know how it is doing (sd_notify(3)).
type manager struct {
	log      *slog.Logger
	watchdog time.Duration // how often it wants a sign of life; 0: not
	failed   bool
}

func newManager(log *slog.Logger) *manager {
	m := &manager{log: log}
	// Half the interval, as sd_watchdog_enabled(3) recommends.
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		m.watchdog = interval / 2
	}
	return m
}

// tell sends lines of state. That nobody hears it is said once, and who did not
// take the last one is not waited for.
func (m *manager) tell(state string) {
	wait := notifyTime
	if m.failed {
		wait = time.Millisecond
	}
	err := notify(state, wait)
	if err != nil && !m.failed {
		m.log.Warn("service manager does not hear", "error", err)
	}
	m.failed = err != nil
}

// notifyTime bounds a send: one that does not read must not hold up the service,
// as [daemon.SdNotify] would let it.
const notifyTime = 100 * time.Millisecond

func notify(state string, wait time.Duration) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	err = c.SetWriteDeadline(time.Now().Add(wait))
	if err == nil {
		_, err = c.Write([]byte(state))
	}
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}

func (m *manager) ready(status string) { m.tell("READY=1\n" + statusLine(status)) }
func (m *manager) status(text string)  { m.tell(statusLine(text)) }

// statusLine is a text as one line: another line would be another order to the
// service manager, and texts come from workers.
func statusLine(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }

func (m *manager) alive() { m.tell(daemon.SdNotifyWatchdog) }

// reloading begins what ready ends. Without the time a manager of Type
// notify-reload waits for it in vain (systemd.service(5)).
func (m *manager) reloading(status string) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return // it has failed for no process yet
	}
	m.tell(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\n%s", now.Nano()/1000, statusLine(status)))
}

func (m *manager) stopping() {
	m.tell(daemon.SdNotifyStopping + "\nSTATUS=finishing the requests under way")
}

// extend asks for more time to start or to stop.
func (m *manager) extend(by time.Duration) {
	m.tell("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(by.Microseconds(), 10))
}
