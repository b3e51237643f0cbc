/** Two texts in one view: what was removed and what was added, read-only. */
import { yaml } from '@codemirror/lang-yaml'
import { unifiedMergeView } from '@codemirror/merge'
import { EditorState } from '@codemirror/state'
import { EditorView, lineNumbers } from '@codemirror/view'

import { highlighting, look } from './look'
import { shadowOf } from './shadow'

export function createDifference(parent: HTMLElement, before: string, after: string, label: string): () => void {
  const view = new EditorView({
    parent: shadowOf(parent),
    state: EditorState.create({
      doc: after,
      extensions: [
        lineNumbers(), yaml(), look, highlighting, EditorState.readOnly.of(true), EditorView.editable.of(false),
        EditorView.contentAttributes.of({ 'aria-label': label, tabindex: '0', role: 'textbox', 'aria-readonly': 'true', 'aria-multiline': 'true' }),
        unifiedMergeView({ original: before, mergeControls: false, collapseUnchanged: { margin: 3, minSize: 6 } }),
      ],
    }),
  })
  return () => view.destroy()
}
