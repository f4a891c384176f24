package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/server/keeper"
)

// callTimeout bounds a question to the running service.
const callTimeout = 5 * time.Second

func newStatusCommand(b *bootstrap) *cobra.Command {
	var out output
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running service and its config are doing",
		Long: `Show how the running service is doing, which revision of the config is in force,
and what became of the last change. A refused or stale config does not make a
service unhealthy.

Exit codes: 0 healthy, 1 not.`,
		Example: "  svc status\n  svc status --wait --timeout 30s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			st, err := b.status(cmd.Context(), wait, timeout)
			if err != nil {
				return err
			}
			if err := out.print(b.stdout, st, st.text); err != nil {
				return err
			}
			if !st.Healthy {
				return &exitError{1, nil}
			}
			return nil
		},
	}
	out.addFlag(cmd.Flags())
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the service is healthy")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long --wait waits")
	return cmd
}

// waitInterval is how often --wait asks.
const waitInterval = 100 * time.Millisecond

func (b *bootstrap) status(ctx context.Context, wait bool, timeout time.Duration) (status, error) {
	deadline := time.Now().Add(timeout)
	for {
		st, err := b.askStatus(ctx)
		if !wait || err == nil && st.Healthy || time.Now().After(deadline) {
			return st, err
		}
		select {
		case <-time.After(waitInterval):
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// statusTimeout bounds the questions of one status.
const statusTimeout = 2 * time.Second

// askStatus asks the keeper first, which answers at once whatever its workers
// do, then the worker that serves. Where that does not answer, what the keeper
// knows is the status.
func (b *bootstrap) askStatus(ctx context.Context) (status, error) {
	var table keeper.Table
	kept := errNamed
	if !b.adminNamed {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		table, kept = keeper.Ask(ctx, b.stateDir)
		cancel()
	}
	var st status
	var err error
	if kept != nil || table.Serving != 0 || table.Stopping {
		err = b.ask(ctx, statusTimeout, func(ctx context.Context, c *admin.Client) error {
			return c.Get(ctx, "/api/v1/status", &st)
		})
		if err == nil || kept != nil {
			return st, err
		}
	}
	st = status{Version: table.Version, KeeperPID: table.KeeperPID, Source: sourceStatus{Name: b.source}, Generation: table.Serving, Listeners: table.Listeners}
	st.add(table)
	if err != nil {
		st.Healthy = false
		st.Trouble = "the generation that serves does not answer: " + err.Error()
	}
	return st, nil
}

var errNamed = errors.New("the service is named by an address")

// ask calls the running service. Where there is none, the error says so.
func (b *bootstrap) ask(ctx context.Context, timeout time.Duration, call func(context.Context, *admin.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := call(ctx, b.client)
	var answer *admin.Problem
	var untrusted *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the service at %s takes those of SVC_ADMIN_TOKEN or SVC_ADMIN_TOKEN_FILE, SVC_ADMIN_CERT and SVC_ADMIN_KEY", err, b.admin)
	case errors.As(err, &answer):
		return err
	case errors.As(err, &untrusted):
		return fmt.Errorf("the service at %s is not trusted: name its CA with SVC_ADMIN_CA: %w", b.admin, err)
	case errors.As(err, &network) && network.Op == "remote error": // a TLS alert
		return fmt.Errorf("the service at %s refuses the connection: show it a certificate with SVC_ADMIN_CERT and SVC_ADMIN_KEY: %w", b.admin, err)
	}
	if errors.Is(err, context.DeadlineExceeded) { // its socket is there
		return fmt.Errorf("the service at %s does not answer within %v; \"svc status\" tells how it is: %w", b.admin, timeout, err)
	}
	return fmt.Errorf("no service answers at %s: start one with \"svc run\", or name it with --admin or SVC_STATE_DIR: %w", b.admin, err)
}

func (s status) text(w io.Writer) {
	health := "healthy"
	if !s.Healthy {
		health = "not healthy"
	}
	_, _ = fmt.Fprintf(w, "%s, process %d, version %s\n\n", health, s.KeeperPID, s.Version)
	source := s.Source.Name + " " + s.Source.Address
	if s.Source.StaleSince != nil {
		source += " (stale since " + showTime(*s.Source.StaleSince) + ")"
	}
	revision := s.Revision
	if s.Pinned != "" {
		revision += " (pinned by a rollback; \"svc rollback --resume\" follows the source again)"
	}
	rows := [][]string{{"source", source}}
	if s.Source.Error != "" {
		rows = append(rows, []string{"", s.Source.Error})
	}
	if s.Trouble != "" {
		rows = append(rows, []string{"trouble", s.Trouble})
	}
	if s.Last.Outcome != "" {
		rows = append(rows, s.lastRows(revision)...)
	}
	if r := s.LastRestart; r != nil {
		rows = append(rows, []string{"last restart", fmt.Sprintf("%s %s, generation %d after %.0f ms, because: %s", r.Outcome, showTime(r.At), r.Generation, r.Seconds*1000, r.Reason)})
		if r.Error != "" {
			rows = append(rows, []string{"", r.Error})
		}
	}
	rows = append(rows, []string{"listening on", strings.Join(s.Listeners, ", ")})
	for _, g := range s.Generations {
		rows = append(rows, generationRows(g)...)
	}
	table(w, rows)
}

// lastRows tell of the config.
func (s status) lastRows(revision string) [][]string {
	rows := [][]string{{"revision", revision}}
	if s.Fallback != "" {
		rows = append(rows, []string{"", "last good content, because: " + s.Fallback})
	}
	rows = append(rows, []string{"last change", fmt.Sprintf("%s (%s) %s", s.Last.Outcome, s.Last.Action, showTime(s.Last.At))})
	if s.Last.Reason != "" {
		rows = append(rows, []string{"", s.Last.Reason})
	}
	if len(s.Last.Changed) > 0 {
		rows = append(rows, []string{"changed", strings.Join(s.Last.Changed, ", ")})
	}
	return rows
}

// generationRows tell what a generation does, holds, and why.
func generationRows(g keeper.Generation) [][]string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(g.Connections)) {
		parts = append(parts, fmt.Sprintf("%d %s", g.Connections[kind], kind))
	}
	if len(parts) == 0 {
		parts = []string{"no connections"}
	}
	rows := [][]string{{
		fmt.Sprintf("generation %d", g.Number),
		fmt.Sprintf("%s, process %d, since %s, %s", g.State, g.PID, showTime(g.Since), strings.Join(parts, ", ")),
	}}
	if g.Reason != "" {
		rows = append(rows, []string{"", g.Reason})
	}
	if g.State == keeper.StateDraining {
		text := "still listens on " + strings.Join(g.Holds, ", ")
		if len(g.Holds) == 0 {
			text = "listens on nothing"
		}
		if g.By != nil {
			text += ", ends by " + showTime(*g.By)
		}
		rows = append(rows, []string{"", text})
	}
	return rows
}
