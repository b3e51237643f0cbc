/** The look of editor and difference: the page's colours, in both themes. */
import { HighlightStyle, syntaxHighlighting } from '@codemirror/language'
import { EditorView } from '@codemirror/view'
import { tags } from '@lezer/highlight'

export const look = EditorView.theme({
  '&': { backgroundColor: 'var(--color-panel)', color: 'var(--color-ink)', fontSize: '0.875rem' },
  '.cm-content': { fontFamily: 'var(--font-mono)', caretColor: 'var(--color-ink)', minHeight: '16rem' },
  '.cm-cursor': { borderLeftColor: 'var(--color-ink)' },
  '.cm-gutters': { backgroundColor: 'var(--color-ground)', color: 'var(--color-soft)', borderRight: '1px solid var(--color-line)' },
  '&.cm-focused': { outline: '2px solid var(--color-accent)' },
  '.cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground': { backgroundColor: 'var(--color-connecting-ground)' },
  '.cm-tooltip': { backgroundColor: 'var(--color-panel)', color: 'var(--color-ink)', border: '1px solid var(--color-edge)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--color-accent)', color: 'var(--color-on-accent)' },
  '.cm-completionDetail': { color: 'inherit' },
  // Instead of the icons of @codemirror/lint, which are data: URLs.
  '.cm-lint-marker': { content: 'normal', borderRadius: '50%', width: '0.75em', height: '0.75em' },
  '.cm-lint-marker-error': { content: 'normal', backgroundColor: 'var(--color-down)' },
  '.cm-lint-marker-warning': { content: 'normal', backgroundColor: 'var(--color-degraded)' },
  '.cm-lintRange': { backgroundImage: 'none', textDecoration: 'underline wavy', textUnderlineOffset: '0.2em' },
  '.cm-lintRange-error': { backgroundImage: 'none', textDecorationColor: 'var(--color-down)' },
  '.cm-lintRange-warning': { backgroundImage: 'none', textDecorationColor: 'var(--color-degraded)' },
  '.cm-diagnostic-error': { borderLeftColor: 'var(--color-down)' },
  '.cm-insertedLine, .cm-changedLine': { backgroundColor: 'var(--color-up-ground) !important' },
  '.cm-deletedChunk': { backgroundColor: 'var(--color-down-ground) !important' },
  '.cm-deletedChunk del, .cm-deletedText': { textDecoration: 'none', background: 'none !important' }, // red on red is hard to read
  '.cm-changedText': { background: 'none !important' },
  '.cm-collapsedLines': { backgroundImage: 'none !important', backgroundColor: 'var(--color-ground) !important', color: 'var(--color-soft) !important' },
  '.cm-collapsedLines:before, .cm-collapsedLines:after': { content: '"⋯" !important' }, // few fonts have the default character
})

export const highlighting = syntaxHighlighting(
  HighlightStyle.define([
    { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--color-accent)' },
    { tag: tags.comment, color: 'var(--color-soft)', fontStyle: 'italic' },
    { tag: [tags.string, tags.content], color: 'var(--color-ink)' },
    { tag: [tags.bool, tags.number, tags.null], color: 'var(--color-degraded)' },
  ]),
)
