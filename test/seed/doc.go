// Package seed reads the YAML blocks of the article that Penstock started
// from, verbatim, and shows block by block that each works with Penstock or
// that the superset we ship does. What is compared is read out of the blocks,
// never written down here a second time.
package seed
