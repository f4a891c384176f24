package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
)

func newConfigCommand(b *bootstrap) *cobra.Command {
	var out output
	var origin bool
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Show the running config",
		Long:    "Show every setting of the running config. Secrets are masked.\n\nExit codes: 0, or 1 where no service answers.",
		Example: "  svc config\n  svc config --origin",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			var settings []reload.Setting
			err := b.ask(cmd.Context(), callTimeout, func(ctx context.Context, c *admin.Client) error {
				return c.Get(ctx, "/api/v1/config", &settings)
			})
			if err != nil {
				return err
			}
			return out.print(b.stdout, settings, func(w io.Writer) { showSettings(w, settings, origin) })
		},
	}
	out.addFlag(cmd.Flags())
	cmd.Flags().BoolVar(&origin, "origin", false, "show where each value comes from, and what it shadows")
	return cmd
}

func showSettings(w io.Writer, settings []reload.Setting, origin bool) {
	var rows [][]string
	if origin {
		rows = [][]string{{"SETTING", "VALUE", "FROM", "SHADOWS"}}
	}
	for _, s := range settings {
		row := []string{s.Key, showValue(s.Value)}
		if origin {
			row = append(row, showOrigin(s.Origin), "-")
			if len(s.Shadows) > 0 {
				var shadows []string
				for _, o := range s.Shadows {
					shadows = append(shadows, showOrigin(o))
				}
				row[3] = strings.Join(shadows, ", ")
			}
		}
		rows = append(rows, row)
	}
	table(w, rows)
}

func showOrigin(o configsrc.Origin) string {
	if o.Source == "" || o.Name == "" || strings.HasPrefix(o.Name, "--") || strings.HasPrefix(o.Name, "SVC_") {
		return o.String()
	}
	return o.Source + " " + o.String()
}

func newHistoryCommand(b *bootstrap) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "Show every change of the config and what became of it",
		Long:    "Show every change of the config and what became of it, the newest first.\n\nExit codes: 0, or 1 where no service answers.",
		Example: "  svc history\n  svc history --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			var entries []reload.Entry
			err := b.ask(cmd.Context(), callTimeout, func(ctx context.Context, c *admin.Client) error {
				return c.Get(ctx, "/api/v1/history", &entries)
			})
			if err != nil {
				return err
			}
			return out.print(b.stdout, entries, func(w io.Writer) {
				rows := [][]string{{"CHANGE", "AT", "REVISION", "TRIGGER", "OUTCOME", "CHANGED", "REASON"}}
				for _, e := range slices.Backward(entries) {
					rows = append(rows, []string{
						strconv.FormatInt(e.ID, 10), e.At.Local().Format(time.DateTime), e.Revision, string(e.Trigger),
						string(e.Outcome), strings.Join(e.Changed, ","), e.Reason,
					})
				}
				table(w, rows)
			})
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}

func newRollbackCommand(b *bootstrap) *cobra.Command {
	var resume bool
	cmd := newActCommand(b, func(args []string) (string, error) {
		switch {
		case resume && len(args) == 0:
			return "/api/v1/resume", nil
		case !resume && len(args) == 1 && args[0] != "":
			return "/api/v1/rollback/" + url.PathEscape(args[0]), nil
		}
		return "", &exitError{2, errors.New("want a revision from \"svc history\", or --resume")}
	})
	cmd.Use = "rollback REV | --resume"
	cmd.Short = "Bring an earlier revision into force again, or end that"
	cmd.Long = `Bring the content of an earlier revision into force again, through the same
checks, and pin it: what the source publishes is read but not applied, also
after a restart, until --resume.

Exit codes: 0 it is in force, 1 it is not.`
	cmd.Example = "  svc rollback 3f2a9c0d1e5b\n  svc rollback --resume"
	cmd.Args = cobra.MaximumNArgs(1)
	cmd.Flags().BoolVar(&resume, "resume", false, "follow the source again")
	return cmd
}

func newReloadCommand(b *bootstrap) *cobra.Command {
	cmd := newActCommand(b, func([]string) (string, error) { return "/api/v1/reload", nil })
	cmd.Use = "reload"
	cmd.Short = "Read all sources again now, and say what became of it"
	cmd.Long = `Read all sources again now and wait for the outcome.

Exit codes: 0 applied or unchanged, 1 not in force as a whole.`
	cmd.Example = "  svc reload\n  svc reload --output json"
	cmd.Args = cobra.NoArgs
	return cmd
}

// actTimeout bounds a request that builds and applies a config.
const actTimeout = time.Minute

// newActCommand makes a command that posts to a path and prints the entry that
// it is answered with.
func newActCommand(b *bootstrap, path func(args []string) (string, error)) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			path, err := path(args)
			if err != nil {
				return err
			}
			var entry reload.Entry
			err = b.ask(cmd.Context(), actTimeout, func(ctx context.Context, c *admin.Client) error {
				return c.Post(ctx, path, nil, nil, &entry)
			})
			if err != nil {
				return err
			}
			err = out.print(b.stdout, entry, func(w io.Writer) {
				_, _ = fmt.Fprintln(w, entryLine(entry))
			})
			if err == nil && !entry.Outcome.Good() {
				return &exitError{1, nil}
			}
			return err
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}

func entryLine(e reload.Entry) string {
	line := string(e.Outcome)
	if e.Revision != "" {
		line += " " + e.Revision
	}
	if len(e.Changed) > 0 {
		line += " (" + strings.Join(e.Changed, ", ") + ")"
	}
	if e.Reason != "" {
		line += ": " + e.Reason
	}
	return line
}
