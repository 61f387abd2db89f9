package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-events/penstock/test/bench/plot"
)

// The part of the document that a run rewrites.
const (
	markBegin = "<!-- bench: begin, written by `make bench` -->"
	markEnd   = "<!-- bench: end -->"
)

// publish writes the run into a page, between its markers, and its picture beside it.
func (r *result) publish(page string) error {
	picture := strings.TrimSuffix(page, filepath.Ext(page)) + ".svg"
	chart := r.chart()
	text := fmt.Sprintf("![%s](%s)\n\n%s", chart.Title, filepath.Base(picture), r.markdown())
	if err := rewrite(page, text); err != nil {
		return err
	}
	if err := os.WriteFile(picture, []byte(plot.SVG(chart)), 0o644); err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}

// rewrite puts text between the markers of a document and leaves the rest alone.
func rewrite(name, text string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	fresh, err := between(string(old), text)
	if err != nil {
		return fmt.Errorf("write report: %s: %w", name, err)
	}
	if err := os.WriteFile(name, []byte(fresh), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func between(document, text string) (string, error) {
	head, rest, found := strings.Cut(document, markBegin)
	if !found {
		return "", fmt.Errorf("no line %q", markBegin)
	}
	_, tail, found := strings.Cut(rest, markEnd)
	if !found {
		return "", fmt.Errorf("no line %q after %q", markEnd, markBegin)
	}
	return head + markBegin + "\n" + text + markEnd + tail, nil
}
