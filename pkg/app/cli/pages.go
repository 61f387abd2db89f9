package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// pages is a list that the server gives page by page. What is printed is let go
// of, so that a long list needs no long memory; tables get their widths from
// each page.
type pages[T any] struct {
	limit int // of all; 0 is none
	page  int // items to ask for at once

	next  func(limit int, cursor string) (items []T, next string, err error)
	name  func(T) string // for -o name
	table func(items []T, wide bool) table

	none string // what is said where there is nothing
	more string // and where there is more than the limit, with %d for how many there were
}

// whole is what of a list was asked for, kept for JSON alone.
type whole[T any] struct {
	items []T
	next  string
}

// print prints the list, but for JSON, which the caller makes of what it returns.
func (p pages[T]) print(cmd *cobra.Command, format string) (all whole[T], err error) {
	out, notes := cmd.OutOrStdout(), cmd.ErrOrStderr()
	all.items = []T{}
	printed, cursor := 0, ""
	for {
		ask := p.page
		if p.limit > 0 {
			ask = min(ask, p.limit-printed)
		}
		items, next, err := p.next(ask, cursor)
		if err != nil {
			return all, err
		}
		switch format {
		case formatJSON:
			all.items, all.next = append(all.items, items...), next
		case formatName:
			for _, item := range items {
				fmt.Fprintln(out, p.name(item))
			}
		default:
			if len(items) > 0 {
				t := p.table(items, format == formatWide)
				if err := t.print(out, printed == 0); err != nil {
					return all, err
				}
			}
		}
		printed += len(items)
		if cursor = next; cursor == "" || p.limit > 0 && printed >= p.limit {
			break
		}
	}
	if format == formatJSON {
		return all, nil
	}
	if printed == 0 && format != formatName {
		fmt.Fprintln(notes, p.none)
	}
	if cursor != "" {
		fmt.Fprintf(notes, p.more, printed)
	}
	return all, nil
}
