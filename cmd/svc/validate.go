package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
)

// validation is the answer of svc validate.
type validation struct {
	Valid    bool                `json:"valid"`
	Revision string              `json:"revision,omitempty"`
	Problems []configsrc.Problem `json:"problems"`
	Warnings []configsrc.Problem `json:"warnings"`
}

func newValidateCommand(b *bootstrap) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "validate [FILE|-]",
		Short: "Check a config as a start would",
		Long: `Check a config as a start would, without starting anything: FILE or standard
input (YAML) in the place of the configured source, or without FILE what that
source has now. Prints "file:line: key: reason" for each problem.

An expired certificate, or one that is not valid yet, is a problem here, as it is
in a change; a start takes it, with a warning, rather than not to serve at all.

Exit codes: 0 it would start, 1 it would be refused, 2 it cannot be read.`,
		Example: "  svc validate config.yaml\n  svc validate --strict - < config.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.resolve(); err != nil {
				return err
			}
			m, err := b.newChecker()
			if err != nil {
				return err
			}
			var values configsrc.Values
			if len(args) == 0 {
				err = m.Read(cmd.Context())
			} else {
				values, err = b.readValues(args[0])
			}
			v := validation{Problems: []configsrc.Problem{}, Warnings: []configsrc.Problem{}}
			if err == nil {
				v.Warnings, err = m.Check(cmd.Context(), values)
			}
			if v.Problems, err = problemsOf(err); err != nil {
				return err
			}
			v.Valid = len(v.Problems) == 0
			if err := out.print(b.stdout, v, v.text); err != nil {
				return err
			}
			if !v.Valid {
				return &exitError{1, nil}
			}
			return nil
		},
	}
	out.addFlag(cmd.Flags())
	return cmd
}

// readValues reads and parses a command's FILE.
func (b *bootstrap) readValues(name string) (configsrc.Values, error) {
	document, err := b.readDocument(name)
	if err != nil {
		return nil, err
	}
	return flatten(name, document)
}

// problemsOf takes the problems of a content out of an error. What is no fault
// of the content stays an error: exit code 2.
func problemsOf(err error) ([]configsrc.Problem, error) {
	var invalid *configsrc.InvalidError
	var exit *exitError
	switch {
	case err == nil:
		return []configsrc.Problem{}, nil
	case errors.As(err, &exit):
		return nil, err
	case errors.As(err, &invalid):
		return invalid.Problems, nil
	case errors.Is(err, reload.ErrBuild):
		return []configsrc.Problem{{Reason: err.Error()}}, nil
	}
	return nil, &exitError{2, err}
}

func (v validation) text(w io.Writer) {
	for _, p := range v.Problems {
		_, _ = fmt.Fprintln(w, p)
	}
	for _, p := range v.Warnings {
		_, _ = fmt.Fprintf(w, "warning: %s\n", p)
	}
	if v.Valid {
		_, _ = fmt.Fprintln(w, "valid")
	}
}
