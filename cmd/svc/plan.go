package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
)

func newPlanCommand(b *bootstrap) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "plan [FILE|-]",
		Short: "Show what a config would change, and what that would cause",
		Long: `Show each setting that FILE, or standard input (YAML), would change if the config
source had it, and whether the change takes effect in place or needs a restart.
It is compared with the running service, or where none runs with what the source
has now. Without FILE it shows what the source has now and the service has not.

Exit codes: 0 nothing would change, 3 something would, 1 it would be refused,
2 it cannot be read.`,
		Example: "  svc plan new.yaml\n  svc plan - < new.yaml\n  svc plan new.yaml --output json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			var document []byte
			name := ""
			if len(args) == 1 {
				name = args[0]
				var err error
				if document, err = b.readDocument(name); err != nil {
					return err
				}
			}
			plan, against, err := b.plan(cmd.Context(), name, document)
			if err != nil {
				problems, err := problemsOf(err)
				if err != nil {
					return err
				}
				validation{Problems: problems}.text(b.stderr)
				return &exitError{1, errors.New("this config would be refused")}
			}
			if err := out.print(b.stdout, plan, func(w io.Writer) { plan.text(w, against) }); err != nil {
				return err
			}
			if len(plan.Changes) > 0 {
				return &exitError{3, nil}
			}
			return nil
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}

// plan asks the running service, or without one the sources.
func (b *bootstrap) plan(ctx context.Context, name string, document []byte) (planResult, string, error) {
	var plan planResult
	query := url.Values{}
	if document != nil {
		query.Set("name", name)
		if len(document) == 0 {
			document = []byte("\n") // an empty document, not none
		}
	}
	err := b.ask(ctx, callTimeout, func(ctx context.Context, c *admin.Client) error {
		return c.Post(ctx, "/api/v1/plan", query, document, &plan)
	})
	var answer *admin.Problem
	switch {
	case err == nil:
		return plan, "the running service", nil
	case errors.As(err, &answer) && len(answer.Problems) > 0:
		return plan, "", &configsrc.InvalidError{Problems: answer.Problems}
	case errors.As(err, &answer):
		return plan, "", &exitError{1, answer}
	case b.adminNamed || !noneRuns(err):
		// There is a service, or was to be one: the sources alone are no answer.
		return plan, "", &exitError{2, err}
	}
	m, err := b.newChecker()
	if err != nil {
		return plan, "", err
	}
	if err := m.Read(ctx); err != nil {
		return plan, "", fmt.Errorf("no service runs, and the source cannot be read either: %w", err)
	}
	var values configsrc.Values
	if document != nil {
		if values, err = flatten(name, document); err != nil {
			return plan, "", err
		}
	}
	plan.Connections = map[string]int{}
	if plan.Plan, err = m.Plan(values); err == nil {
		err = check(ctx, m, values)
	}
	return plan, "the source, since no service is running", err
}

// noneRuns reports that a question was not answered because no service is there.
func noneRuns(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// check tells whether a content can be built. Where it cannot, the error is a
// *configsrc.InvalidError.
func check(ctx context.Context, m *reload.Manager[Config], values configsrc.Values) error {
	_, err := m.Check(ctx, values)
	problems, err := problemsOf(err)
	if err == nil && len(problems) > 0 {
		err = &configsrc.InvalidError{Problems: problems}
	}
	return err
}

func (p planResult) text(w io.Writer, against string) {
	if len(p.Changes) == 0 {
		_, _ = fmt.Fprintf(w, "nothing would change against %s\n", against)
		return
	}
	effects := map[reload.Action]string{reload.ActionInPlace: "in place", reload.ActionRestart: "restart"}
	rows := [][]string{{"SETTING", "EFFECT", "OLD -> NEW"}}
	for _, c := range p.Changes {
		rows = append(rows, []string{c.Key, effects[c.Effect], showValue(c.Old) + " -> " + showValue(c.New)})
	}
	table(w, rows)
	if p.Pinned != "" {
		_, _ = fmt.Fprintf(w, "\npinned to %s by a rollback: nothing of this happens until \"svc rollback --resume\"\n", p.Pinned)
	}
	_, _ = fmt.Fprintf(w, "\nagainst %s: ", against)
	if p.Action != reload.ActionRestart {
		_, _ = fmt.Fprintln(w, "takes effect in place, no connection notices")
		return
	}
	_, _ = fmt.Fprintln(w, "needs a restart")
	for _, kind := range slices.Sorted(maps.Keys(p.Connections)) {
		_, _ = fmt.Fprintf(w, "  %d %s connections would drain\n", p.Connections[kind], kind)
	}
}
