package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server"
	"github.com/hotsvc/svc/server/certs"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// diagnosis is the answer of svc doctor.
type diagnosis struct {
	OK       bool      `json:"ok"`
	Findings []finding `json:"findings"`
}

func newDoctorCommand(b *bootstrap) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that the service could start here: source, content, certificates, state folder, addresses, limits",
		Long: `Read the configured source as a start would, check what it holds, and look at
what else a start needs: certificates and their end, the state folder, the
addresses to listen on (where no service runs yet), and the system's limits.

Exit codes: 0 all is well, 1 something is not.`,
		Example: "  svc doctor\n  SVC_FILE=/etc/svc.yaml svc doctor --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			d, err := b.diagnose(cmd.Context())
			if err != nil {
				return err
			}
			if err := out.print(b.stdout, d, d.text); err != nil {
				return err
			}
			if !d.OK {
				return &exitError{1, nil}
			}
			return nil
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}

func (b *bootstrap) diagnose(ctx context.Context) (diagnosis, error) {
	m, err := b.newChecker()
	if err != nil {
		return diagnosis{}, err
	}
	d := diagnosis{OK: true}
	running := d.service(ctx, b)
	if !b.fileIsThere() {
		d.add("source file", true, defaultFile+" does not exist yet; \"svc run\" writes it")
	} else if d.source(ctx, m) && d.content(ctx, m) {
		if config, err := m.Candidate(); err == nil { // content has looked at it
			d.certificates(ctx, config)
			if !running {
				d.addresses(ctx, config)
			}
		}
	}
	d.stateDir(b.stateDir, running)
	d.limits()
	return d, nil
}

func (d *diagnosis) add(check string, ok bool, detail string) {
	d.Findings = append(d.Findings, finding{check, ok, detail})
	d.OK = d.OK && ok
}

// service reports a running service, or that there is none: either is well. One
// that does not answer as it should is not. It returns whether one may be there.
func (d *diagnosis) service(ctx context.Context, b *bootstrap) bool {
	var st status
	err := b.ask(ctx, callTimeout, func(ctx context.Context, c *admin.Client) error { return c.Get(ctx, "/api/v1/status", &st) })
	var answer *admin.Problem
	switch {
	case err == nil:
		d.add("service", st.Healthy, fmt.Sprintf("process %d at %s, revision %s, last change %s", st.KeeperPID, b.admin, st.Revision, st.Last.Outcome))
	case noneRuns(err):
		d.add("service", true, "none runs at "+b.admin)
		return false
	case errors.As(err, &answer):
		d.add("service", false, fmt.Sprintf("one runs at %s and does not answer: %v (status %d)", b.admin, err, answer.Status))
	default:
		d.add("service", false, "it cannot be told how it does: "+err.Error())
	}
	return true
}

func (d *diagnosis) source(ctx context.Context, m *reload.Manager[Config]) bool {
	began := time.Now()
	err := m.Read(ctx)
	took := time.Since(began).Round(100 * time.Microsecond)
	for _, s := range m.Status().Sources {
		detail := fmt.Sprintf("%s: %d keys, version %s, read in %v", s.Address, s.Keys, s.Label, took)
		if s.Stale {
			detail = s.Error
		}
		d.add("source "+s.Name, !s.Stale, detail)
	}
	return err == nil
}

func (d *diagnosis) content(ctx context.Context, m *reload.Manager[Config]) bool {
	warnings, err := m.Check(ctx, nil)
	if err != nil {
		d.add("content", false, err.Error())
		return false
	}
	detail := "valid"
	if len(warnings) > 0 {
		parts := make([]string, len(warnings))
		for i, w := range warnings {
			parts[i] = w.String()
		}
		detail += ", with keys that have no effect: " + strings.Join(parts, "; ")
	}
	d.add("content", true, detail)
	return true
}

// certificates shows until when they are good. That they are good now, the
// content's check has found.
func (d *diagnosis) certificates(ctx context.Context, c *Config) {
	service, err := openServerMaterial(ctx, c.Server.TLS, certs.Options{})
	d.certificate(serverTLS, service, err)
	operator, err := openAdminMaterial(ctx, c.Admin.TLS, certs.Options{})
	d.certificate(adminTLS, operator, err)
}

func (d *diagnosis) certificate(section string, m *material, err error) {
	if err != nil {
		d.add(section, false, err.Error())
		return
	}
	loaded := m.load()
	if loaded == nil {
		return
	}
	hours := int(time.Until(loaded.NotAfter()).Hours())
	left := fmt.Sprintf("in %d days", hours/24)
	if hours < 48 {
		left = fmt.Sprintf("in %d hours", hours)
	}
	detail := fmt.Sprintf("%s, until %s, %s", loaded.Subject(), loaded.NotAfter().UTC().Format(time.DateTime+" MST"), left)
	if err := m.Close(); err != nil {
		detail += "; " + err.Error()
	}
	d.add(section, true, detail)
}

func (d *diagnosis) addresses(ctx context.Context, c *Config) {
	l, err := listen(ctx, server.Listen, addressesOf(c))
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		d.add("addresses", false, err.Error())
		return
	}
	d.add("addresses", true, strings.Join(slices.Concat(c.Server.Listen, c.Admin.Listen), ", ")+" can be listened on")
}

// stateDir checks that the folder can be written to. One that a service runs
// with is well.
func (d *diagnosis) stateDir(path string, running bool) {
	const check = "state folder"
	if running {
		d.add(check, true, path+" is in use by the service")
		return
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		d.add(check, true, path+" does not exist yet; a start makes it")
		return
	}
	if err == nil && !info.IsDir() {
		err = errors.New(path + " is not a folder")
	}
	if err != nil {
		d.add(check, false, err.Error())
		return
	}
	// As a start does: a service that does not answer may still hold it.
	state, err := openStateDir(path)
	if err == nil {
		err = state.close()
	}
	if err != nil {
		d.add(check, false, err.Error())
		return
	}
	d.add(check, true, path+" can be written to, and no service holds it")
}

// minFiles is the number of open files below which a service with long
// connections soon runs out.
const minFiles = 4096

func (d *diagnosis) limits() {
	n, ok := maxOpenFiles()
	if !ok {
		return
	}
	detail := fmt.Sprintf("%d open files", n)
	if n < minFiles {
		detail += fmt.Sprintf(": each connection takes one; raise the limit (ulimit -n, LimitNOFILE=) to %d or more", minFiles)
	}
	d.add("limits", n >= minFiles, detail)
}

func (d diagnosis) text(w io.Writer) {
	rows := make([][]string, len(d.Findings))
	for i, f := range d.Findings {
		mark := "ok"
		if !f.OK {
			mark = "BAD"
		}
		rows[i] = []string{mark, f.Check, f.Detail}
	}
	table(w, rows)
}
