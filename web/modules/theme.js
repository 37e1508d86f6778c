// Light, dark, or as the system says.

const THEMES = ['auto', 'light', 'dark'];
const KEY = 'theme';

/** Makes a button go round the themes, and keeps the choice. */
export function initTheme(button) {
  let theme = localStorage.getItem(KEY) ?? 'auto';
  const show = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem(KEY, theme);
    show();
  });
  show();
}
