/**
 * Where CodeMirror is mounted: a shadow root. In a document it would add <style> elements, which the page's policy refuses; in a shadow
 * root it adopts style sheets. The page's colours are custom properties, which are inherited.
 */
export function shadowOf(element: HTMLElement): ShadowRoot {
  return element.shadowRoot ?? element.attachShadow({ mode: 'open' })
}
